from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from senet.errors import InputError
from senet.models import create_model, model_config
from senet.models.mbconv import Unit
from senet.models.mobile import MobileNet, MobileNetV3
from senet.models.mobile_config import MobileConfig, MobileStage

NAMES = ["semobilenetv1_100", "semobilenetv2_100", "mobilenetv3_small_100", "efficientnet_b0"]
EACH = pytest.mark.parametrize("name", NAMES)
OTHERS = {"conv_reduce": "fc1", "conv_expand": "fc2"}


def build(name, randomise, **options):
    return randomise(create_model(name, **{"num_classes": 5, **options})).eval()


def units(net):
    return [module for module in net.modules() if isinstance(module, Unit)]


def output_and_gradients(net, x):
    net.zero_grad()
    x = x.clone().requires_grad_()
    y = net(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, *(p.grad for p in net.parameters())]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mobilenetv1_100", {}),
        ("mobilenetv1_100", {"output_stride": 16}),
        ("mobilenetv2_100", {}),
        ("mobilenetv2_100", {"output_stride": 8}),
        ("mobilenetv3_large_100", {}),
        ("mobilenetv3_small_100", {}),
        ("efficientnet_b0", {}),
        ("efficientnet_b0", {"output_stride": 16}),
    ],
)
def test_outputs_and_gradients_are_timms(name, options, randomise):
    import timm

    theirs = randomise(timm.create_model(name, num_classes=5, **options)).double()
    ours = create_model(name, num_classes=5, **options).double()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    for train, size in ((False, 64), (True, 75)):
        x = torch.randn(2, 3, size, size, dtype=torch.float64)
        found, wanted = (output_and_gradients(net.train(train), x) for net in (ours, theirs))
        assert wanted[0].abs().max() > 0.1
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b)
    for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(a, b)


TORCHVISIONS_NORM = {"norm_eps": 1e-3, "norm_momentum": 0.01}


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("mobilenetv2_100", "mobilenet_v2", {}),
        ("mobilenetv3_large_100", "mobilenet_v3_large", TORCHVISIONS_NORM),
        ("mobilenetv3_small_100", "mobilenet_v3_small", TORCHVISIONS_NORM),
        ("efficientnet_b0", "efficientnet_b0", {}),
    ],
)
def test_outputs_are_torchvisions(name, theirs, options, randomise):
    """Their parameters lie in the same order; only MobileNetV3's linear layer in the head is a convolution of ours."""
    from torchvision import models

    theirs = randomise(models.get_model(theirs, num_classes=5)).double()
    ours = create_model(name, num_classes=5, **options).double()
    mine = ours.state_dict()
    state = {key: value.view_as(mine[key]) for key, value in zip(mine, theirs.state_dict().values(), strict=True)}
    ours.load_state_dict(state, strict=True)
    norms = ([(m.eps, m.momentum) for m in net.modules() if isinstance(m, nn.BatchNorm2d)] for net in (ours, theirs))
    assert next(norms) == next(norms)
    for size in (33, 64):
        x = torch.randn(2, 3, size, size, dtype=torch.float64)
        with torch.no_grad():
            expected = theirs.eval()(x)
            assert expected.abs().max() > 0.05
            torch.testing.assert_close(ours.eval()(x), expected)
    theirs.apply(_without_dropout)
    torch.testing.assert_close(ours.train()(x), theirs.train()(x))


def test_larger_efficientnets_are_torchvisions_with_its_norms():
    """From B5 on theirs have another eps and momentum."""
    from torchvision import models

    with torch.device("meta"):
        theirs = models.efficientnet_b5()
        ours = create_model("efficientnet_b5", **TORCHVISIONS_NORM)
    assert [v.shape for v in ours.state_dict().values()] == [v.shape for v in theirs.state_dict().values()]
    norms = ([(m.eps, m.momentum) for m in net.modules() if isinstance(m, nn.BatchNorm2d)] for net in (ours, theirs))
    assert next(norms) == next(norms)


def _without_dropout(module):
    if isinstance(module, nn.Dropout) or type(module).__name__ == "StochasticDepth":
        module.p = 0.0


@EACH
def test_is_its_parts_in_order(name, randomise):
    net = build(name, randomise)
    x = torch.randn(2, 3, 64, 48)
    features = net.forward_features(x)
    assert features.shape == (2, net.num_features, 2, 2)
    pooled = net.forward_head(features, pre_logits=True)
    if isinstance(net, MobileNetV3):
        linear = features.mean((2, 3)) @ net.conv_head.weight[:, :, 0, 0].T + net.conv_head.bias
        torch.testing.assert_close(pooled, nn.functional.hardswish(linear))
    else:
        torch.testing.assert_close(pooled, features.mean((2, 3)))
    assert pooled.shape == (2, net.head_hidden_size)
    torch.testing.assert_close(net(x), pooled @ net.classifier.weight.T + net.classifier.bias)


@EACH
def test_heads(name, randomise):
    net, headless = build(name, randomise), build(name, randomise, num_classes=0, in_chans=1)
    assert headless(torch.randn(2, 1, 33, 47)).shape == (2, net.head_hidden_size)
    net.reset_classifier(3)
    assert net(torch.randn(1, 3, 33, 47)).shape == (1, 3)
    net.reset_classifier(0)
    assert isinstance(net.get_classifier(), nn.Identity)
    assert net(torch.randn(1, 3, 33, 47)).shape == (1, net.head_hidden_size)


@EACH
def test_maps_of_the_backbone_are_timms(name, randomise):
    import timm

    theirs = randomise(timm.create_model(name.removeprefix("se"), features_only=True)).eval()
    ours = create_model(name, attn="se" if name.startswith(("mobilenetv3", "eff")) else None, features_only=True).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(1, 3, 96, 64)
    with torch.no_grad():
        found, wanted = ours(x), theirs(x)
    assert len(found) == len(wanted) == 5
    for a, b, info in zip(found, wanted, ours.feature_info, strict=True):
        assert a.shape == (1, info["num_chs"], 96 // info["reduction"], 64 // info["reduction"])
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("placement", ["standard", "depthwise"])
@EACH
def test_gates_of_one_make_the_plain_twin(name, placement, randomise):
    net = build(name, randomise, placement=placement).double()
    twin = build(name, randomise, attn=None).double()
    twin.load_state_dict({key: value for key, value in net.state_dict().items() if ".se." not in key}, strict=True)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    expected = twin(x)
    assert not torch.allclose(net(x), expected)
    for unit in units(net):
        if unit.se is not None:
            unit.se.gate = nn.Identity()
            nn.init.zeros_(unit.se.fc2.weight)
            nn.init.ones_(unit.se.fc2.bias)
    torch.testing.assert_close(net(x), expected)


def test_blocks_sit_in_the_stages_that_are_named():
    for name, stages in (("semobilenetv1_100", (2, 6)), ("mobilenetv3_large_100", (4, 7)), ("efficientnet_b0", ())):
        with torch.device("meta"):
            net = create_model(name, stages=stages)
        for number, stage in enumerate(net.blocks, start=2):
            assert all((unit.se is not None) == (number in stages) for unit in stage)


def test_hidden_widths():
    """A quarter of the unit's input in EfficientNet, of the map in MobileNetV3; the user's own counts from the map."""
    with torch.device("meta"):
        efficient, large = create_model("efficientnet_b0"), create_model("mobilenetv3_large_100")
        narrow = create_model("efficientnet_b0", attn_options={"reduction": 8})
        moved = create_model("efficientnet_b0", placement="standard")
        own = create_model("efficientnet_b0", attn_options={"hidden_channels": 7})
    widths = [(u.se.fc1.in_channels, u.se.fc1.out_channels) for u in units(efficient)]
    assert widths[:4] == [(32, 8), (96, 4), (144, 6), (144, 6)]
    assert widths[-2:] == [(1152, 48), (1152, 48)]
    assert [u.se.fc1.out_channels for u in units(large) if u.se] == [24, 32, 32, 120, 168, 168, 240, 240]
    assert all(u.se.fc1.out_channels == u.se.fc1.in_channels // 8 for u in units(narrow))
    assert [(u.se.fc1.in_channels, u.se.fc1.out_channels) for u in units(moved)][:3] == [(16, 8), (24, 4), (24, 6)]
    assert {u.se.fc1.out_channels for u in units(own)} == {7}
    for net in (efficient, narrow, moved, own):
        assert {type(u.se.act) for u in units(net)} == {nn.SiLU}
    assert {(type(u.se.act), type(u.se.gate)) for u in units(large) if u.se} == {(nn.ReLU, nn.Hardsigmoid)}


@pytest.mark.parametrize("attn", ["eca", "cbam", "scse", None])
@EACH
def test_any_block_or_none(name, attn, randomise):
    net = build(name, randomise, attn=attn)
    assert net(torch.randn(2, 3, 32, 32)).isfinite().all()
    own = {type(unit.se).__name__.lower() for unit in units(net) if unit.se is not None}
    assert own == ({attn} if attn else set())


@EACH
def test_compile_export_copy_and_memory_format(name, randomise):
    net = build(name, randomise, trunk=model_config(name).trunk[:4])
    x = torch.randn(2, 3, 32, 32)
    y = net(x)
    torch.compiler.reset()
    torch.testing.assert_close(torch.compile(copy.deepcopy(net), fullgraph=True, backend="eager")(x), y)
    program = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=16)},))
    torch.testing.assert_close(program.module()(x[:1].repeat(3, 1, 1, 1)), y[:1].repeat(3, 1), rtol=1e-4, atol=1e-4)
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    features = last.forward_features(x.to(memory_format=torch.channels_last))
    assert features.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last.forward_head(features), y, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(x).isfinite().all()


@pytest.mark.parametrize("name", NAMES[1:])
def test_checkpoints_change_no_number(name, randomise):
    net = build(name, randomise, drop_path_rate=0.2).double().train()
    twin = copy.deepcopy(net)
    twin.set_grad_checkpointing()
    x = torch.randn(2, 3, 40, 32, dtype=torch.float64)
    found = []
    for each in (net, twin):
        torch.manual_seed(3)
        found.append(output_and_gradients(each, x))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(net.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(a, b)


def test_drop_path_rises_over_all_units():
    with torch.device("meta"):
        net = create_model("efficientnet_b0", drop_path_rate=0.3)
    every = units(net)
    assert len(every) == 16
    rates = {index: unit.drop_path.rate for index, unit in enumerate(every) if unit.has_shortcut}
    assert len(rates) == 9
    assert all(rate == pytest.approx(0.3 * index / 15) for index, rate in rates.items())


def test_start_as_in_tensorflows_release():
    net = create_model("efficientnet_b0")
    for layer, fan_out in (
        (net.conv_head, 1280),
        (net.blocks[5][1].conv_dw, 25),
        (net.blocks[5][1].conv_pw, 1152),
        (net.blocks[5][1].se.fc2, 1152),
    ):
        assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert net.classifier.weight.abs().max().item() == pytest.approx(1000**-0.5, rel=1e-3)
    biases = [m.bias for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and m.bias is not None]
    assert len(biases) == 33
    assert all((bias == 0).all() for bias in biases)
    assert all((m.weight == 1).all() for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def test_a_network_of_ones_own(randomise):
    stages = (
        MobileStage(outputs=12, expansions=(1.0, 2.0), site="standard"),
        MobileStage(outputs=24, stride=2, expansions=(3.5,), kernel=7, act="relu", site="depthwise"),
    )
    config = MobileConfig(trunk=stages, stem_width=12, num_classes=4, attn="se", attn_options={"reduction": 4})
    net = randomise(MobileNet(config)).eval()
    assert [unit.conv_dw.out_channels for unit in units(net)] == [12, 24, 40]
    assert [unit.se.fc1.in_channels for unit in units(net)] == [12, 12, 40]
    assert [(f["num_chs"], f["reduction"]) for f in net.feature_info] == [(12, 2), (24, 4)]
    assert net(torch.randn(2, 3, 16, 16)).shape == (2, 4)
    with pytest.raises(InputError, match=r"^head_width is none, but MobileNetV3's head has a convolution"):
        MobileNetV3(config)
