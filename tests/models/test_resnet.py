from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from senet.errors import InputError
from senet.models import ResNet, ResNetConfig, create_model
from senet.models.units import UNITS

NETS = {
    "basic": ("seresnet18", {}),
    "bottleneck": ("seresnext50_32x4d", {"depths": (1, 1, 1, 1)}),
    "preact_basic": ("cifar_sepreresnet110", {"depths": (1, 2, 1)}),
    "preact_bottleneck": ("cifar_sepreresnet164", {"depths": (1, 2, 1)}),
    "pad": ("cifar_seresnet14", {}),
}
EACH = pytest.mark.parametrize("kind", list(NETS))


def build(kind, randomise, **options):
    name, own = NETS[kind]
    return randomise(create_model(name, **{"num_classes": 5, **own, **options})).eval()


@EACH
def test_is_its_parts_in_order(kind, randomise):
    net = build(kind, randomise)
    x = torch.randn(2, 3, 40, 32)
    features = net.forward_features(x)
    pooled = features.mean((2, 3))
    assert features.shape[:2] == (2, net.num_features)
    torch.testing.assert_close(net.forward_head(features, pre_logits=True), pooled)
    torch.testing.assert_close(net.forward_head(features), pooled @ net.fc.weight.T + net.fc.bias)
    torch.testing.assert_close(net(x), net.forward_head(net.forward_features(x)))


@EACH
def test_without_a_classifier_it_returns_pooled_features(kind, randomise):
    net, headless = build(kind, randomise), build(kind, randomise, num_classes=0)
    state = net.state_dict()
    headless.load_state_dict({key: value for key, value in state.items() if not key.startswith("fc.")}, strict=True)
    x = torch.randn(2, 3, 32, 32)
    assert headless(x).shape == (2, net.num_features)
    torch.testing.assert_close(headless(x), net.forward_head(net.forward_features(x), pre_logits=True))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [28, 32])
@EACH
def test_any_image(kind, size, channels, randomise):
    net = build(kind, randomise, in_chans=channels)
    assert net.conv1.in_channels == channels
    assert net(torch.randn(1, channels, size, size)).shape == (1, 5)


@pytest.mark.parametrize("stages", [None, (2,), (3, 4), (4,), ()])
@pytest.mark.parametrize("placement", ["standard", "pre", "post", "identity", "3x3"])
@EACH
def test_blocks_sit_in_the_stages_that_are_named(kind, placement, stages, randomise):
    if placement == "3x3" and not NETS[kind][0].startswith(("seresnext", "cifar_sepreresnet164")):
        with pytest.raises(InputError, match=r"placement is '3x3'"):
            build(kind, randomise, placement=placement, stages=stages)
        return
    with torch.device("meta"):
        net = build(kind, randomise, placement=placement, stages=stages)
    for index in range(len(net.config.depths)):
        wanted = stages is None or index + 2 in stages
        for unit in net.get_submodule(f"layer{index + 1}"):
            assert (unit.se is not None) == wanted


@pytest.mark.parametrize("placement", ["standard", "pre", "post", "identity"])
@EACH
def test_gates_of_one_make_the_plain_twin(kind, placement, randomise):
    net = build(kind, randomise, placement=placement).double()
    twin = build(kind, randomise, attn=None).double()
    twin.load_state_dict({key: value for key, value in net.state_dict().items() if ".se." not in key}, strict=True)
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    expected = twin(x)
    assert not torch.allclose(net(x), expected)
    for module in net.modules():
        if isinstance(module, tuple(UNITS.values())):
            module.se.gate = nn.Identity()
            nn.init.zeros_(module.se.fc2.weight)
            nn.init.ones_(module.se.fc2.bias)
    torch.testing.assert_close(net(x), expected)


@EACH
def test_compile_export_copy_and_memory_format(kind, randomise):
    net = build(kind, randomise)
    x = torch.randn(2, 3, 32, 32)
    y = net(x)
    torch.compiler.reset()
    torch.testing.assert_close(torch.compile(copy.deepcopy(net), fullgraph=True, backend="eager")(x), y)
    program = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=16)},))
    torch.testing.assert_close(program.module()(x[:1].repeat(3, 1, 1, 1)), y[:1].repeat(3, 1), rtol=1e-4, atol=1e-5)
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    features = last.forward_features(x.to(memory_format=torch.channels_last))
    assert features.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last.forward_head(features), y, rtol=1e-4, atol=1e-5)


@EACH
def test_every_parameter_learns(kind, randomise):
    net = build(kind, randomise).train()
    torch.nn.functional.cross_entropy(net(torch.randn(4, 3, 32, 32)), torch.arange(4)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert all(p.grad.abs().sum() > 0 for p in net.parameters() if p.ndim == 4 and p.shape[-1] > 1)


def test_the_seed_decides_the_weights():
    nets = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        nets.append(create_model("cifar_seresnet8").state_dict())
    assert all(torch.equal(nets[0][key], nets[1][key]) for key in nets[0])
    assert not torch.equal(nets[0]["conv1.weight"], nets[2]["conv1.weight"])


def test_convolutions_start_by_fan_out():
    net = create_model("seresnet18")
    for name in ("layer4.1.conv2", "layer4.1.se.fc2"):
        weight = net.get_submodule(name).weight
        fan_out = weight.shape[0] * weight[0, 0].numel()
        assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


@pytest.mark.parametrize(("name", "norm"), [("resnet18", "bn2"), ("seresnet50", "bn3"), ("cifar_resnet8", "bn2")])
def test_zero_init_residual(name, norm):
    for zero in (False, True):
        net = create_model(name, zero_init_residual=zero)
        units = [module for module in net.modules() if isinstance(module, tuple(UNITS.values()))]
        assert units
        assert all((unit.get_submodule(norm).weight == (0 if zero else 1)).all() for unit in units)
        assert all((unit.bn1.weight == 1).all() for unit in units)


def test_zero_init_residual_starts_each_unit_as_its_shortcut(randomise):
    unit = create_model("seresnet18", zero_init_residual=True).eval().layer1[0]
    x = torch.rand(1, 64, 8, 8)
    torch.testing.assert_close(unit(x), x)


@pytest.mark.parametrize(("groups", "base_width", "narrowing"), [(1, 64, 64), (32, 4, 4), (3, 6, 2), (3, 5, 1)])
def test_groups_of_any_width_that_narrowing_divides(groups, base_width, narrowing):
    options = {"groups": groups, "base_width": base_width, "narrowing": narrowing, "stem": "deep", "stem_width": 2}
    net = ResNet(ResNetConfig(unit="bottleneck", depths=(1, 1), planes=(64, 128), num_classes=5, **options)).eval()
    conv = net.layer2[0].conv2
    assert conv.weight.shape == (2 * base_width * groups, 2 * base_width // narrowing, 3, 3)
    assert net(torch.randn(1, 3, 32, 32)).shape == (1, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "dense"}, r"option 'unit' is 'dense'; accepted: 'basic', 'bottleneck', 'preact_basic'"),
        ({"stem": "tiny"}, r"option 'stem' is 'tiny'; accepted: 'imagenet', 'deep', 'cifar'$"),
        ({"depths": (1, 1)}, r"^depths is \[1, 1\], planes \[64, 128, 256, 512\]; give each one number a stage$"),
        ({"depths": ()}, r"^depths is \[\]"),
        ({"depths": (1, 1, 0, 1)}, r"^depths is \[1, 1, 0, 1\]; accepted: numbers of 1 or more$"),
        ({"planes": (64, 0, 1, 1)}, r"^planes is \[64, 0, 1, 1\]; accepted"),
        ({"groups": 0}, r"^groups is 0; accepted: 1 or more$"),
        ({"base_width": 0}, r"^base_width is 0; accepted"),
        ({"narrowing": 0}, r"^narrowing is 0; accepted"),
        ({"stem_width": 0}, r"^stem_width is 0; accepted: 1 or more$"),
        ({"stem": "deep", "stem_width": 1}, r"^stem_width is 1, which leaves a deep stem 1 channel; accepted: 2 or mo"),
        ({"stem": "deep", "planes": (1, 2, 4, 8)}, r"^stem_width is None, which leaves a deep stem 1 channel"),
        ({"narrowing": 2}, r"narrowing and stride_in are for bottlenecks, but unit is 'basic'"),
        (
            {"groups": 2},
            r"^groups, base_width, narrowing and stride_in are for bottlenecks, but unit is 'basic'; leave them out$",
        ),
        (
            {"unit": "bottleneck", "planes": (8, 8, 8, 8), "base_width": 4},
            r"^base_width is 4: 8 planes leave its groups no",
        ),
        (
            {"unit": "bottleneck", "narrowing": 3},
            r"^narrowing is 3; accepted: what divides the widths of groups, \[64, 128, 256, 512\]$",
        ),
        ({"unit": "bottleneck", "narrowing": 128}, r"^narrowing is 128; accepted"),
        (
            {"unit": "bottleneck", "groups": 32, "base_width": 4, "narrowing": 8},
            r"^narrowing is 8; accepted: what divides the widths of groups, \[4, 8, 16, 32\]$",
        ),
        (
            {"unit": "preact_basic", "shortcut": "pad"},
            r"^shortcut is 'pad', but pre-activation units accept: 'projection'$",
        ),
        ({"attn": "se", "stages": (2, 6)}, r"^stages is \[2, 6\]; accepted: any of \[2, 3, 4, 5\]"),
        ({"planes": (64, 32, 32, 32), "shortcut": "pad"}, r"cannot take 64 channels to 32"),
        ({"unit": "preact_basic", "zero_init_residual": True}, r"^zero_init_residual needs a norm at the end"),
    ],
)
def test_refusals(options, message):
    with torch.device("meta"), pytest.raises(InputError, match=message):
        ResNet(ResNetConfig(**{"unit": "basic", "depths": (1, 1, 1, 1), **options}))
