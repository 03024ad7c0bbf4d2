from __future__ import annotations

import pytest
import torch

from senet.models import create_model
from senet.models.tables import TABLE

TIMM = [name for name in TABLE if not name.startswith("cifar_")]
NO_BIAS = {"bias": False}


def parameters(name, **options):
    with torch.device("meta"):
        net = create_model(name, **options)
    return sum(p.numel() for p in net.parameters())


def test_every_network_has_its_twin():
    for name in TABLE:
        if "_se" not in name and not name.startswith("se"):
            twin = f"cifar_se{name.removeprefix('cifar_')}" if name.startswith("cifar_") else f"se{name}"
            assert TABLE[name].attn is None
            assert TABLE[twin].attn == "se"
    assert len(TABLE) == 32


@pytest.mark.parametrize("name", TIMM)
def test_names_and_shapes_are_timms(name):
    import timm

    with torch.device("meta"):
        theirs, ours = timm.create_model(name).state_dict(), create_model(name).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}
    assert list(ours) == list(theirs)


@pytest.mark.parametrize("name", ["seresnet18", "seresnet50", "seresnext50_32x4d", "resnext50_32x4d", "resnet34"])
def test_outputs_are_timms_with_the_same_weights(name, randomise):
    import timm

    theirs, ours = randomise(timm.create_model(name, num_classes=11)).eval(), create_model(name, num_classes=11).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    with torch.no_grad():
        x = torch.randn(2, 3, 64, 64)
        expected = theirs.double()(x.double())
        torch.testing.assert_close(ours.double()(x.double()), expected)
    assert expected.abs().max() > 1e-3


def test_outputs_are_torchvisions_with_the_same_weights(randomise):
    from torchvision.models import resnet18

    theirs, ours = randomise(resnet18(num_classes=11)).eval(), create_model("resnet18", num_classes=11).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    with torch.no_grad():
        x = torch.randn(2, 3, 64, 64)
        torch.testing.assert_close(ours.double()(x.double()), theirs.double()(x.double()))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
        ("resnext50_32x4d", 25_028_904),
        ("resnext101_32x4d", 44_177_704),
        ("seresnet50", 28_088_024),
        ("seresnet101", 49_326_872),
        ("seresnet152", 66_821_848),
        ("seresnext50_32x4d", 27_559_896),
        ("seresnext101_32x4d", 48_955_416),
        ("cifar_preresnet110", 1_730_522),
        ("cifar_preresnet164", 1_703_258),
        ("cifar_sepreresnet110", 1_730_522 + 14_238),
        ("cifar_sepreresnet164", 1_703_258 + 202_104),
    ],
)
def test_parameters(name, count):
    assert parameters(name) == count


@pytest.mark.parametrize(
    ("name", "count"),
    [("preresnet110", 1_736_372), ("preresnet164", 1_726_388), ("sepreresnet110", 1_736_372 + 14_238)],
)
def test_parameters_on_cifar100(name, count):
    assert parameters(f"cifar_{name}", num_classes=100) == count


def test_parameters_of_cifar_blocks_without_bias():
    assert parameters("cifar_sepreresnet110", attn_options=NO_BIAS) == 1_730_522 + 12_096
    assert parameters("cifar_sepreresnet164", attn_options=NO_BIAS) == 1_703_258 + 193_536


@pytest.mark.parametrize("depth", [8, 14, 20, 32, 44, 56, 110])
def test_parameters_of_cifar_resnets(depth):
    """6n + 2 layers; shortcuts have no parameters (arXiv 1512.03385, Sec. 4.2)."""
    n = (depth - 2) // 6
    convolutions = [(3, 16), *[(16, 16)] * 2 * n]
    for width in (32, 64):
        convolutions += [(width // 2, width), *[(width, width)] * (2 * n - 1)]
    plain = sum(9 * inputs * outputs + 2 * outputs for inputs, outputs in convolutions) + 64 * 10 + 10
    blocks = sum(n * (2 * c * (c // 16) + c // 16 + c) for c in (16, 32, 64))
    assert len(convolutions) + 1 == depth
    assert parameters(f"cifar_resnet{depth}") == plain
    assert parameters(f"cifar_seresnet{depth}") == plain + blocks


@pytest.mark.parametrize(
    ("reduction", "without_bias", "with_bias"),
    [
        (2, 45_676_584, 45_699_240),
        (4, 35_616_808, 35_635_688),
        (8, 30_586_920, 30_603_912),
        (16, 28_071_976, 28_088_024),
        (32, 26_814_504, 26_830_080),
    ],
)
def test_parameters_by_reduction(reduction, without_bias, with_bias):
    """Table 10."""
    assert parameters("seresnet50", attn_options={"reduction": reduction, **NO_BIAS}) == without_bias
    assert parameters("seresnet50", attn_options={"reduction": reduction}) == with_bias


@pytest.mark.parametrize(
    ("stage", "without_bias", "biases"),
    [(2, 25_581_608, 816), (3, 25_688_104, 2_176), (4, 26_343_464, 6_528), (5, 27_129_896, 6_528)],
)
def test_parameters_by_stage(stage, without_bias, biases):
    """Table 13."""
    assert parameters("seresnet50", stages=(stage,), attn_options=NO_BIAS) == without_bias
    assert parameters("seresnet50", stages=(stage,)) == without_bias + biases


@pytest.mark.parametrize(
    ("placement", "weights", "with_bias"),
    [
        ("standard", 2_514_944, 2_530_992),
        ("pre", 1_991_168, None),
        ("post", 2_514_944, 2_530_992),
        ("identity", 2_514_944, 2_530_992),
        ("3x3", 157_184, 161_196),
    ],
)
def test_parameters_by_placement(placement, weights, with_bias):
    """Tables 14 and 15."""
    assert parameters("seresnet50", placement=placement, attn_options=NO_BIAS) == 25_557_032 + weights
    if with_bias is not None:
        assert parameters("seresnet50", placement=placement) == 25_557_032 + with_bias


@pytest.mark.parametrize(
    ("attn", "options", "count"),
    [
        ("cbam", {}, 28_089_624),
        ("eca", {}, 25_557_118),
        ("ge", {}, 25_557_032),
        ("se", {"squeeze": "none"}, 28_088_024),
    ],
)
def test_parameters_of_other_blocks(attn, options, count):
    assert parameters("resnet50", attn=attn, attn_options=options) == count


def test_parameters_added_follow_the_papers_formula():
    """Sec. 4, eq. 5: 2 / r * sum N_s C_s^2."""
    for name in ("resnet50", "resnet101", "resnet152"):
        depths = TABLE[name].depths
        added = 2 * sum(n * c * c for n, c in zip(depths, (256, 512, 1024, 2048), strict=True)) // 16
        assert parameters(f"se{name}", attn_options=NO_BIAS) - parameters(name) == added


def test_hidden_widths():
    widths = {"seresnet18": (8, 8, 16, 32), "seresnet34": (8, 8, 16, 32), "seresnet50": (16, 32, 64, 128)}
    for name, expected in widths.items():
        with torch.device("meta"):
            net = create_model(name)
        assert tuple(net.get_submodule(f"layer{i}.0.se.fc1").out_channels for i in range(1, 5)) == expected
