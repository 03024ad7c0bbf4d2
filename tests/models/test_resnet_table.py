from __future__ import annotations

import pytest
import torch

from senet.models import create_model
from senet.models.resnet_table import TABLE

TIMM = [name for name in TABLE if not name.startswith("cifar_") and not name.endswith("_caffe")]
NO_BIAS = {"bias": False}


def parameters(name, **options):
    with torch.device("meta"):
        net = create_model(name, **options)
    return sum(p.numel() for p in net.parameters())


def test_every_network_has_its_twin():
    for name in TABLE:
        if "_se" not in name and not name.startswith("se"):
            twin = f"cifar_se{name.removeprefix('cifar_')}" if name.startswith("cifar_") else f"se{name}"
            assert TABLE[name].config.attn is None
            assert TABLE[twin].config.attn == "se"
            assert TABLE[name].size == TABLE[twin].size == (32 if name.startswith("cifar_") else 224)


@pytest.mark.parametrize("name", TIMM)
def test_names_and_shapes_are_timms(name):
    import timm

    with torch.device("meta"):
        theirs, ours = timm.create_model(name).state_dict(), create_model(name).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}
    assert list(ours) == list(theirs)


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
        ("senet154", 115_088_984),
        ("cifar_wrn16_8", 10_961_370),
        ("cifar_sewrn16_8", 10_961_370 + 87_920),
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
    [
        ("preresnet110", 1_736_372),
        ("preresnet164", 1_726_388),
        ("wrn16_8", 11_007_540),
        ("sepreresnet110", 1_736_372 + 14_238),
    ],
)
def test_parameters_on_cifar100(name, count):
    assert parameters(f"cifar_{name}", num_classes=100) == count


def test_parameters_of_cifar_blocks_without_bias():
    assert parameters("cifar_sepreresnet110", attn_options=NO_BIAS) == 1_730_522 + 12_096
    assert parameters("cifar_sepreresnet164", attn_options=NO_BIAS) == 1_703_258 + 193_536
    assert parameters("cifar_sewrn16_8", attn_options=NO_BIAS) == 10_961_370 + 86_016


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
        depths = TABLE[name].config.depths
        added = 2 * sum(n * c * c for n, c in zip(depths, (256, 512, 1024, 2048), strict=True)) // 16
        assert parameters(f"se{name}", attn_options=NO_BIAS) - parameters(name) == added


def test_hidden_widths():
    widths = {"seresnet18": (8, 8, 16, 32), "seresnet34": (8, 8, 16, 32), "seresnet50": (16, 32, 64, 128)}
    for name, expected in widths.items():
        with torch.device("meta"):
            net = create_model(name)
        assert tuple(net.get_submodule(f"layer{i}.0.se.fc1").out_channels for i in range(1, 5)) == expected


@pytest.mark.parametrize("name", [name for name in TABLE if name.endswith("_caffe")])
def test_the_release_differs_only_in_stem_and_strides(name):
    ours = parameters(name)
    assert ours == parameters(name.removesuffix("_caffe"))
    config = TABLE[name].config
    stride = "1x1" if name in ("resnet50_caffe", "resnet101_caffe", "resnet152_caffe") or "seresnet" in name else "3x3"
    assert (config.stem_pool, config.stride_in) == ("ceil", stride)
    assert config.drop_rate == (0.2 if name == "senet154_caffe" else 0)


@pytest.mark.parametrize("name", ["seresnet50", "seresnext50_32x4d", "senet154"])
def test_the_release_computes_what_timms_ports_compute(name, randomise):
    import timm

    kinds = timm.models.senet
    if name == "senet154":
        deep = {"input_3x3": True, "inplanes": 128, "downsample_kernel_size": 3, "downsample_padding": 1}
        theirs = kinds.SENet(kinds.SEBottleneck, [1, 1, 1, 1], groups=64, reduction=16, **deep)
    else:
        kind, groups = (kinds.SEResNetBottleneck, 1) if name == "seresnet50" else (kinds.SEResNeXtBottleneck, 32)
        shortcut = {"downsample_kernel_size": 1, "downsample_padding": 0}
        theirs = kinds.SENet(kind, [1, 1, 1, 1], groups=groups, reduction=16, inplanes=64, **shortcut)
    randomise(theirs).double().eval()
    ours = create_model(f"{name}_caffe", depths=(1, 1, 1, 1)).double().eval()
    state = dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True))
    renamed = {
        key.replace("layer0.", "").replace("se_module", "se").replace("last_linear", "fc")
        for key in theirs.state_dict()
    }
    if name != "senet154":  # whose stem timm names in another way
        assert renamed == set(state)
    ours.load_state_dict(state, strict=True)
    for size in (64, 97):
        x = torch.randn(2, 3, size, size, dtype=torch.float64)
        torch.testing.assert_close(ours(x), theirs(x))
