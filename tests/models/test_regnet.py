from __future__ import annotations

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from senet.analysis.complexity import count
from senet.errors import InputError
from senet.models import create_model, list_models
from senet.models.regnet import RegNet, RegNetConfig, RegNetUnit
from senet.models.regnet_table import TABLE

EACH = pytest.mark.parametrize("name", list(TABLE))
SMALL = {"depths": (1, 2, 1, 2), "widths": (16, 24, 40, 48), "group_width": 8, "num_classes": 5}

# flops (B), parameters (M), activations (M): pycls, MODEL_ZOO.md
PUBLISHED = {
    "regnety_002": (0.2, 3.2, 2.2),
    "regnety_004": (0.4, 4.3, 3.9),
    "regnety_006": (0.6, 6.1, 4.3),
    "regnety_008": (0.8, 6.3, 5.2),
    "regnety_016": (1.6, 11.2, 8.0),
    "regnety_032": (3.2, 19.4, 11.3),
    "regnety_040": (4.0, 20.6, 12.3),
    "regnety_064": (6.4, 30.6, 16.4),
    "regnety_080": (8.0, 39.2, 18.0),
    "regnety_120": (12.1, 51.8, 21.4),
    "regnety_160": (15.9, 83.6, 23.0),
    "regnety_320": (32.3, 145.0, 30.3),
}
TORCHVISIONS = {
    "regnety_004": "regnet_y_400mf",
    "regnety_008_tv": "regnet_y_800mf",
    "regnety_016": "regnet_y_1_6gf",
    "regnety_032": "regnet_y_3_2gf",
    "regnety_080_tv": "regnet_y_8gf",
    "regnety_160": "regnet_y_16gf",
    "regnety_320": "regnet_y_32gf",
}


def small(**options):
    return create_model("regnety_002", **{**SMALL, **options}).eval()


def compare(ours, theirs, x, names=lambda name: name):
    """Outputs in both modes, and gradients, of two networks with the same weights; ``names`` are theirs by ours."""
    for mode in (True, False):
        results = []
        for net in (ours.train(mode), theirs.train(mode)):
            torch.manual_seed(1)
            results.append(net(x))
        torch.testing.assert_close(*results)
        assert results[0].std() > 1e-3
        if mode:
            for result in results:
                F.cross_entropy(result, torch.arange(len(x))).backward()
    gradients = {names(name): parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        scale = gradients[name].abs().max().item()
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-6, atol=1e-6 * scale)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_costs_are_the_published_ones(name):
    with torch.device("meta"):
        total = count(create_model(name), (3, 224, 224)).total
    published = [round(part, 1) for part in PUBLISHED[name]]
    assert [round(n / 1e6, 1) for n in (total.multiply_adds / 1e3, total.parameters, total.activations)] == published


@EACH
def test_names_shapes_and_levels_are_timms(name):
    import timm

    with torch.device("meta"):
        theirs, ours = timm.create_model(name), create_model(name)
    shapes = [[(key, value.shape) for key, value in net.state_dict().items()] for net in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert ours.feature_info == theirs.feature_info
    assert ours.num_features == ours.head_hidden_size == theirs.num_features


@pytest.mark.parametrize("name", list(TORCHVISIONS))
def test_costs_are_torchvisions(name):
    from torchvision.models import get_model_weights

    with torch.device("meta"):
        total = count(create_model(name), (3, 224, 224)).total
    meta = get_model_weights(TORCHVISIONS[name])["IMAGENET1K_V1"].meta
    assert (total.parameters, round(total.multiply_adds / 1e9, 3)) == (meta["num_params"], meta["_ops"])


@pytest.mark.parametrize("size", [(64, 64), (97, 65)])
@pytest.mark.parametrize("name", ["regnety_002", "regnety_006"])
def test_outputs_and_gradients_are_timms(name, size, randomise):
    import timm

    theirs = randomise(timm.create_model(name, num_classes=5)).double()
    ours = create_model(name, num_classes=5).double()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    compare(ours, theirs, torch.randn(3, 3, *size, dtype=torch.float64))


@pytest.mark.parametrize(
    "options", [{"output_stride": 16}, {"output_stride": 8}, {"drop_rate": 0.4, "drop_path_rate": 0.5}], ids=str
)
def test_options_are_timms(options, randomise):
    import timm

    theirs = randomise(timm.create_model("regnety_002", num_classes=5, **options)).double()
    ours = create_model("regnety_002", num_classes=5, **options).double()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert ours.feature_info == theirs.feature_info
    compare(ours, theirs, torch.randn(3, 3, 65, 64, dtype=torch.float64))


def our_name(key):
    """What torchvision's parameters are called here."""
    stage_and_unit = re.sub(r"^trunk_output\.block(\d)\.block\d-(\d+)\.", lambda m: f"s{m[1]}.b{int(m[2]) + 1}.", key)
    layers = {"f.a": "conv1", "f.b": "conv2", "f.c": "conv3", "f.se": "se", "proj": "downsample", "fc": "head.fc"}
    for theirs, ours in layers.items():
        stage_and_unit = re.sub(rf"(^|\.){re.escape(theirs)}\.(?!\w+\.\w+\.\w)", rf"\1{ours}.", stage_and_unit)
    return re.sub(
        r"(stem|conv\d|downsample)\.([01])\.", lambda m: f"{m[1]}.{'conv' if m[2] == '0' else 'bn'}.", stage_and_unit
    )


@pytest.mark.parametrize("name", ["regnety_004", "regnety_008_tv"])
def test_outputs_and_gradients_are_torchvisions(name, randomise):
    from torchvision.models import get_model

    theirs = randomise(get_model(TORCHVISIONS[name], num_classes=5)).double()
    ours = create_model(name, num_classes=5).double()
    ours.load_state_dict({our_name(key): tensor for key, tensor in theirs.state_dict().items()}, strict=True)
    compare(ours, theirs, torch.randn(3, 3, 65, 64, dtype=torch.float64), our_name)


def units(net):
    return [module for module in net.modules() if isinstance(module, RegNetUnit)]


def test_hidden_widths_are_a_quarter_of_what_comes_into_the_unit():
    with torch.device("meta"):
        net, other = create_model("regnety_004"), create_model("regnety_004", attn_options={"reduction": 4})
    inputs = [unit.conv1.conv.in_channels for unit in units(net)]
    assert inputs[:5] == [32, 48, 104, 104, 104]
    assert [unit.se.fc1.out_channels for unit in units(net)] == [width // 4 for width in inputs]
    assert [unit.se.fc1.out_channels for unit in units(other)] == [unit.se.fc1.in_channels // 4 for unit in units(net)]


@pytest.mark.parametrize("reduction", [2.5, 7, 1000])
def test_hidden_widths_by_another_reduction(reduction):
    with torch.device("meta"):
        net = create_model("regnety_004", input_reduction=reduction)
    expected = [max(1, round(unit.conv1.conv.in_channels / reduction)) for unit in units(net)]
    assert [unit.se.fc1.out_channels for unit in units(net)] == expected


def test_the_block_sits_after_the_3x3_convolution(randomise):
    unit = randomise(small()).s2.b2
    x = torch.randn(2, 24, 9, 9)
    y = unit.conv2(unit.conv1(x))
    s = torch.sigmoid(unit.se.fc2(unit.se.fc1(y.mean((2, 3), keepdim=True)).relu()))
    assert (y >= 0).all()
    assert s.std() > 1e-3
    torch.testing.assert_close(unit(x), (unit.conv3(y * s) + x).relu())


def test_gates_of_one_make_the_plain_twin(randomise):
    net, twin = randomise(small()).double(), small(attn=None).double()
    twin.load_state_dict({key: value for key, value in net.state_dict().items() if ".se." not in key}, strict=True)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    expected = twin(x)
    assert not torch.allclose(net(x), expected)
    for unit in units(net):
        unit.se.gate = nn.Identity()
        nn.init.zeros_(unit.se.fc2.weight)
        nn.init.ones_(unit.se.fc2.bias)
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize("stages", [None, (2,), (3, 5), ()])
def test_blocks_sit_in_the_stages_that_are_named(stages):
    with torch.device("meta"):
        net = small(stages=stages)
    for stage in (2, 3, 4, 5):
        wanted = stages is None or stage in stages
        assert all((unit.se is not None) == wanted for unit in net.get_submodule(f"s{stage - 1}"))


@pytest.mark.parametrize("attn", ["ese", "eca", "cbam", "scse", "ge"])
def test_any_block(attn, randomise):
    net = randomise(small(attn=attn)).train()
    F.cross_entropy(net(torch.randn(4, 3, 64, 64)), torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("zero", [False, True])
def test_starts_as_timms(zero):
    import timm

    theirs = timm.create_model("regnety_006", zero_init_last=zero)
    ours = create_model("regnety_006", zero_init_residual=zero)
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if one.ndim > 1:
            assert one.std().item() == pytest.approx(other.std().item(), rel=0.2), name
        else:
            assert torch.equal(one, other), name
    assert all((unit.conv3.bn.weight == (0 if zero else 1)).all() for unit in units(ours))


def test_checkpointing_and_compilation_change_no_number(randomise):
    net = randomise(small()).train()
    x, y = torch.randn(4, 3, 64, 64), torch.arange(4)
    results = []
    for kind in ("plain", "checkpointed", "compiled"):
        twin = copy.deepcopy(net)
        twin.set_grad_checkpointing(kind != "plain")
        torch.compiler.reset()
        run = torch.compile(twin, fullgraph=True, backend="aot_eager") if kind == "compiled" else twin
        F.cross_entropy(run(x), y).backward()
        results.append(({key: p.grad for key, p in twin.named_parameters()}, dict(twin.named_buffers())))
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])


def test_compile_export_copy_and_memory_format(randomise):
    net = randomise(small())
    x = torch.randn(2, 3, 64, 48)
    y = net(x)
    torch.compiler.reset()
    torch.testing.assert_close(torch.compile(copy.deepcopy(net), fullgraph=True, backend="eager")(x), y)
    program = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=16)},))
    torch.testing.assert_close(program.module()(x[:1].repeat(3, 1, 1, 1)), y[:1].repeat(3, 1), rtol=1e-4, atol=1e-5)
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    features = last.forward_features(x.to(memory_format=torch.channels_last))
    assert features.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last.forward_head(features), y, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), y, rtol=0.1, atol=0.1)


def test_head_without_and_with_another_classifier(randomise):
    net, headless = randomise(small()), small(num_classes=0)
    state = net.state_dict()
    headless.load_state_dict({k: v for k, v in state.items() if not k.startswith("head.fc.")}, strict=True)
    x = torch.randn(2, 3, 33, 32)
    torch.testing.assert_close(headless(x), net.forward_features(x).mean((2, 3)))
    torch.testing.assert_close(net(x), headless(x) @ net.head.fc.weight.T + net.head.fc.bias)
    net.reset_classifier(7)
    assert net(x).shape == (2, 7)
    assert net.get_classifier() is net.head.fc


@pytest.mark.parametrize(("channels", "stride"), [(1, 32), (4, 8)])
def test_maps_of_a_backbone(channels, stride, randomise):
    net = randomise(small(in_chans=channels, output_stride=stride))
    features = small(in_chans=channels, output_stride=stride, features_only=True)
    features.load_state_dict({key: net.state_dict()[key] for key in features.state_dict()}, strict=True)
    x = torch.randn(1, channels, 70, 65)
    maps = features(x)
    expected = x
    for info, result in zip(net.feature_info, maps, strict=True):
        expected = net.get_submodule(info["module"])(expected)
        torch.testing.assert_close(result, expected)
        assert result.shape[2:] == (-(-70 // info["reduction"]), -(-65 // info["reduction"]))
    assert net.feature_info[-1]["reduction"] == stride


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": (1, 1)}, r"^depths is \[1, 1\], widths \[16, 24, 40, 48\]; give each one number a stage$"),
        ({"depths": (), "widths": ()}, r"^depths is \[\]"),
        ({"depths": (1, 0, 1, 1)}, r"^depths is \[1, 0, 1, 1\]; accepted: numbers of 1 or more$"),
        ({"group_width": 0}, r"^group_width is 0; accepted: 1 or more$"),
        ({"stem_width": 0}, r"^stem_width is 0; accepted"),
        ({"input_reduction": 0.0}, r"^input_reduction is 0.0; accepted: above 0$"),
        ({"input_reduction": float("nan")}, r"^input_reduction is nan"),
        ({"attn": "se", "attn_options": {"rounding": "timm"}}, r"^rounding is 'timm', but the network itself gives SE"),
        ({"group_width": 16}, r"^widths is \[16, 24, 40, 48\]; accepted: multiples of group_width, 16$"),
        ({"output_stride": 4}, r"option 'output_stride' is 4; accepted: 8, 16, 32$"),
        ({"attn": "se", "stages": (1, 2)}, r"^stages is \[1, 2\]; accepted: any of \[2, 3, 4, 5\]"),
    ],
)
def test_refusals(options, message):
    with torch.device("meta"), pytest.raises(InputError, match=message):
        RegNet(RegNetConfig(**{**SMALL, **options}))


def test_names():
    assert list_models("regnet*") == sorted(TABLE)
    assert set(TABLE) == {*PUBLISHED, "regnety_008_tv", "regnety_080_tv"}
