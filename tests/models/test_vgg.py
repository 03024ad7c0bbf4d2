from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from senet.analysis.complexity import count
from senet.errors import InputError
from senet.models import create_model, list_models
from senet.models.vgg import TABLE, VGG, VGGConfig

PLAIN = [name for name in TABLE if not name.startswith("se")]
PLAIN_EACH = pytest.mark.parametrize("name", PLAIN)
NARROW = (16, 16, 32, 16, 48)


def narrow(name="sevgg11_bn", **options):
    return create_model(name, **{"widths": NARROW, "num_classes": 5, **options}).eval()


def timms(depths, **options):
    from timm.models.vgg import VGG as TimmVGG

    layers = [part for depth, width in zip(depths, NARROW, strict=True) for part in (*[width] * depth, "M")]
    return TimmVGG(layers, norm_layer=nn.BatchNorm2d, num_classes=5, **options)


def compare(ours, theirs, x):
    """Outputs in both modes, and gradients, of two networks with the same weights."""
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
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    # Biases before a norm have a gradient of 0, but for rounding.
    scale = max(gradient.abs().max().item() for gradient in gradients.values())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-6, atol=1e-9 * scale)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("vgg11_bn", 132_868_840), ("vgg13_bn", 133_053_736), ("vgg16_bn", 138_365_992), ("vgg19_bn", 143_678_248)],
)
def test_parameters(name, parameters):
    with torch.device("meta"):
        net, twin = create_model(name), create_model(f"se{name}")
    widths = [module.out_channels for module in net.features if isinstance(module, nn.Conv2d)]
    assert len(widths) + 3 == int(name[3:5])
    assert count(net, (3, 224, 224)).total.parameters == parameters
    added = count(twin, (3, 224, 224)).attention
    assert added.parameters == sum(2 * c * (c // 16) + c // 16 + c for c in widths)
    assert added.multiply_adds == sum(2 * c * (c // 16) for c in widths)
    assert sum(p.numel() for p in twin.parameters()) == parameters + added.parameters


def test_cost_of_vgg16_and_of_its_blocks():
    """Table 2: 15.47 and 15.48 GFLOPs, the pooling of the squeezes included."""
    with torch.device("meta"):
        plain, se = (count(create_model(name), (3, 224, 224)) for name in ("vgg16_bn", "sevgg16_bn"))
        without_bias = create_model("sevgg16_bn", attn_options={"bias": False})
    assert plain.total.multiply_adds == 15_470_264_320
    assert se.total.multiply_adds - plain.total.multiply_adds == 226_304
    assert se.total.parameters == 138_365_992 + 230_792
    assert count(without_bias, (3, 224, 224)).total.parameters == 138_365_992 + 226_304
    assert len(se.sites) == 13
    assert round((se.total.multiply_adds + se.total.squeezed) / 1e9, 2) == 15.48


@PLAIN_EACH
def test_names_shapes_costs_and_levels_are_timms(name):
    import timm

    with torch.device("meta"):
        theirs, ours = timm.create_model(name), create_model(name)
        levels = timm.create_model(name, features_only=True).feature_info
    shapes = [[(key, value.shape) for key, value in net.state_dict().items()] for net in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert count(ours, (3, 224, 224)).total == count(theirs, (3, 224, 224)).total
    assert ours.feature_info == [{key: level[key] for key in ("num_chs", "reduction", "module")} for level in levels]
    assert (ours.num_features, ours.head_hidden_size) == (theirs.num_features, theirs.head_hidden_size)


@pytest.mark.parametrize("size", [(32, 32), (65, 47), (257, 229)])
def test_outputs_and_gradients_are_timms(size, randomise):
    theirs, ours = randomise(timms((1, 1, 2, 2, 2))).double(), narrow("vgg11_bn").double()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    compare(ours, theirs, torch.randn(2, 3, *size, dtype=torch.float64))


def test_dropout_is_timms(randomise):
    theirs, ours = randomise(timms((1, 1, 2, 2, 2), drop_rate=0.5)).double(), narrow("vgg11_bn", drop_rate=0.5).double()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    compare(ours, theirs, torch.randn(3, 3, 40, 40, dtype=torch.float64))


def test_outputs_are_torchvisions(randomise):
    """Their head is linear layers on a map that is always brought to 7 x 7: the same up to 224 pixels."""
    from torchvision.models import vgg16_bn

    with torch.device("meta"):
        theirs, ours = vgg16_bn(num_classes=5).to_empty(device="cpu"), create_model("vgg16_bn", num_classes=5)
    for parameter in theirs.parameters():
        nn.init.uniform_(parameter, -0.05, 0.05)
    state = randomise(theirs).eval().state_dict()
    layers = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    expected = {key: tensor.shape for key, tensor in ours.state_dict().items()}
    renamed = {}
    for key, tensor in state.items():
        layer, _, part = key.rpartition(".")
        name = f"{layers.get(layer, layer)}.{part}"
        renamed[name] = tensor.reshape(expected[name])
    ours.load_state_dict(renamed, strict=True, assign=True)
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs(x), rtol=1e-4, atol=1e-5)


@PLAIN_EACH
def test_plain_weights_load_into_the_twin_with_only_blocks_missing(name):
    with torch.device("meta"):
        plain, se = create_model(name), create_model(f"se{name}")
    missing, unexpected = se.load_state_dict(plain.state_dict(), strict=False, assign=True)
    assert not unexpected
    assert missing == [key for key in se.state_dict() if ".se." in key]
    assert len(missing) == 4 * sum(TABLE[name].config.depths)


def test_blocks_sit_after_the_activation_of_each_convolution(randomise):
    """Sec. 3.3: after the non-linearity following each convolution. Computed here layer by layer."""
    net = randomise(narrow())
    x = torch.randn(2, 3, 40, 40)
    expected = x
    for (conv, norm, slot), last in zip(convolutions(net), (1, 1, 0, 1, 0, 1, 0, 1), strict=True):
        expected = norm(conv(expected)).relu()
        s = torch.sigmoid(slot.se.fc2(slot.se.fc1(expected.mean((2, 3), keepdim=True)).relu()))
        assert s.std() > 1e-3
        expected = expected * s
        expected = F.max_pool2d(expected, 2) if last else expected
    torch.testing.assert_close(net.forward_features(x), expected)


def convolutions(net):
    layers = [module for module in net.features if not isinstance(module, nn.MaxPool2d)]
    return [tuple(layers[i : i + 3]) for i in range(0, len(layers), 3)]


def test_gates_of_one_make_the_plain_twin(randomise):
    net = randomise(narrow()).double()
    twin = narrow(attn=None).double()
    twin.load_state_dict({key: value for key, value in net.state_dict().items() if ".se." not in key}, strict=True)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    expected = twin(x)
    assert not torch.allclose(net(x), expected)
    for _, _, slot in convolutions(net):
        slot.se.gate = nn.Identity()
        nn.init.zeros_(slot.se.fc2.weight)
        nn.init.ones_(slot.se.fc2.bias)
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize("stages", [None, (1,), (2, 5), ()])
def test_blocks_sit_in_the_stages_that_are_named(stages):
    with torch.device("meta"):
        net = create_model("sevgg16_bn", stages=stages)
    having = [isinstance(slot, nn.Sequential) for _, _, slot in convolutions(net)]
    assert having == [
        stages is None or stage in stages for stage, depth in enumerate((2, 2, 3, 3, 3), start=1) for _ in range(depth)
    ]


@pytest.mark.parametrize("attn", ["se", "ese", "eca", "cbam", "scse", "ge"])
def test_any_block(attn, randomise):
    net = randomise(narrow("vgg11_bn", attn=attn, num_classes=3)).train()
    F.cross_entropy(net(torch.randn(4, 3, 32, 32)), torch.arange(4) % 3).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_starts_as_timms():
    ours, theirs = narrow("vgg11_bn"), timms((1, 1, 2, 2, 2))
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if one.ndim > 1:
            assert one.std().item() == pytest.approx(other.std().item(), rel=0.15), name
        else:
            assert torch.equal(one, other), name
    fc2 = narrow("sevgg11_bn").features[2].se.fc2
    assert fc2.weight.std().item() == pytest.approx((2 / 16) ** 0.5, rel=0.5)
    assert (fc2.bias == 0).all()


@pytest.mark.parametrize("name", ["vgg11_bn", "sevgg11_bn"])
def test_checkpointing_changes_memory_alone(name, randomise):
    net = randomise(narrow(name)).train()
    x, y = torch.randn(4, 3, 32, 32), torch.arange(4)
    results, kept = [], []
    for again in (False, True):
        twin = copy.deepcopy(net)
        twin.set_grad_checkpointing(again)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, to=sizes: to.append(t.numel()) or t, lambda t: t):
            features = twin.forward_features(x)
        F.cross_entropy(twin.forward_head(features), y).backward()
        kept.append(sum(sizes))
        results.append(({key: p.grad for key, p in twin.named_parameters()}, dict(twin.named_buffers())))
    assert kept[1] < kept[0] / 5
    torch.testing.assert_close(results[1], results[0])


def test_compiles_with_checkpointing(randomise):
    net = randomise(narrow()).train()
    twin = copy.deepcopy(net)
    twin.set_grad_checkpointing()
    x, y = torch.randn(4, 3, 32, 32), torch.arange(4)
    torch.compiler.reset()
    for run in (net, torch.compile(twin, fullgraph=True, backend="aot_eager")):
        F.cross_entropy(run(x), y).backward()
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    torch.testing.assert_close(dict(net.named_buffers()), dict(twin.named_buffers()))


def test_compile_export_copy_and_memory_format(randomise):
    net = randomise(narrow())
    x = torch.randn(2, 3, 64, 32)
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
    net, headless = randomise(narrow()), narrow(num_classes=0)
    state = net.state_dict()
    headless.load_state_dict({k: v for k, v in state.items() if not k.startswith("head.fc.")}, strict=True)
    x = torch.randn(2, 3, 32, 32)
    hidden = net.forward_head(net.forward_features(x), pre_logits=True)
    assert hidden.shape == (2, 4096)
    torch.testing.assert_close(headless(x), hidden)
    torch.testing.assert_close(net(x), hidden @ net.head.fc.weight.T + net.head.fc.bias)
    net.reset_classifier(7)
    assert net(x).shape == (2, 7)
    assert net.get_classifier() is net.head.fc


@pytest.mark.parametrize("channels", [1, 4])
def test_maps_of_a_backbone(channels, randomise):
    net = randomise(narrow(in_chans=channels))
    features = narrow(in_chans=channels, features_only=True)
    features.load_state_dict({key: net.state_dict()[key] for key in features.state_dict()}, strict=True)
    assert not any(key.startswith(("head", "pre_logits")) for key in features.state_dict())
    x = torch.randn(1, channels, 48, 33)
    maps = features(x)
    expected, wanted = x, {info["module"] for info in net.feature_info}
    for index, layer in enumerate(net.features):
        expected = layer(expected)
        if f"features.{index}" in wanted:
            torch.testing.assert_close(maps.pop(0), expected.clone())
    assert not maps


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depths": (1, 1)}, r"^depths is \[1, 1\], widths \[64, 128, 256, 512, 512\]; give each one number a stage$"),
        ({"depths": (), "widths": ()}, r"^depths is \[\]"),
        ({"depths": (1, 0, 1, 1, 1)}, r"^depths is \[1, 0, 1, 1, 1\]; accepted: numbers of 1 or more$"),
        ({"drop_path_rate": 0.1}, r"^drop_path_rate is 0.1, but VGG has no shortcuts; leave it out$"),
        ({"attn": "se", "stages": (1, 6)}, r"^stages is \[1, 6\]; accepted: any of \[1, 2, 3, 4, 5\]$"),
    ],
)
def test_refusals(options, message):
    with torch.device("meta"), pytest.raises(InputError, match=message):
        VGG(VGGConfig(**{"depths": (1, 1, 1, 1, 1), **options}))


def test_names():
    assert list_models("*vgg*") == sorted(TABLE)
    assert len(TABLE) == 8
