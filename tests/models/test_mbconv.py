from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from senet.blocks import SqueezeExcite
from senet.models.mbconv import ACTS, UNITS, ConvUnit, DepthwiseSeparable, InvertedResidual, Make, Shape

NARROW = Shape(inputs=8, width=8, outputs=8)
WIDE = Shape(inputs=8, width=24, outputs=8)
EACH = pytest.mark.parametrize(
    ("kind", "shape"),
    [("separable", NARROW), ("inverted", NARROW), ("inverted", WIDE), ("conv", NARROW)],
    ids=["separable", "unexpanded", "inverted", "conv"],
)


def parts(place=None, act="relu"):
    def block(at, channels):
        return SqueezeExcite(channels, reduction=4) if at == place else None

    return Make(act=ACTS[act], norm=nn.BatchNorm2d, block=block)


def layers(unit):
    return [name for name, _ in unit.named_children()]


def force_gates(unit, value):
    """Makes the block multiply its map by this number."""
    nn.init.zeros_(unit.se.fc2.weight)
    nn.init.constant_(unit.se.fc2.bias, value)
    unit.se.gate = nn.Identity()


@pytest.mark.parametrize(
    ("kind", "shape", "place", "names"),
    [
        ("separable", NARROW, None, "conv_dw bn1 act1 conv_pw bn2 act2"),
        ("separable", NARROW, "depthwise", "conv_dw bn1 act1 se conv_pw bn2 act2"),
        ("separable", NARROW, "standard", "conv_dw bn1 act1 conv_pw bn2 act2 se"),
        ("inverted", NARROW, None, "conv_dw bn1 act1 conv_pw bn2 drop_path"),
        ("inverted", NARROW, "depthwise", "conv_dw bn1 act1 se conv_pw bn2 drop_path"),
        ("inverted", NARROW, "standard", "conv_dw bn1 act1 conv_pw bn2 se drop_path"),
        ("inverted", WIDE, None, "conv_pw bn1 act1 conv_dw bn2 act2 conv_pwl bn3 drop_path"),
        ("inverted", WIDE, "depthwise", "conv_pw bn1 act1 conv_dw bn2 act2 se conv_pwl bn3 drop_path"),
        ("inverted", WIDE, "standard", "conv_pw bn1 act1 conv_dw bn2 act2 conv_pwl bn3 se drop_path"),
        ("conv", NARROW, "standard", "conv bn1 act1"),
    ],
)
def test_layers_in_order(kind, shape, place, names):
    unit = UNITS[kind](shape, parts(place))
    assert layers(unit) == names.split()
    assert (unit.se is None) == ("se" not in names.split())


@EACH
def test_is_its_layers_and_a_shortcut(kind, shape, randomise):
    unit = randomise(UNITS[kind](shape, parts())).eval().double()
    x = torch.randn(2, 8, 7, 6, dtype=torch.float64)
    y = x
    for name in layers(unit):
        y = unit.get_submodule(name)(y)
    assert unit.has_shortcut == (kind == "inverted")
    torch.testing.assert_close(unit(x), y + x if unit.has_shortcut else y)


def test_inverted_residual_by_the_equations(randomise, naive):
    unit = randomise(InvertedResidual(Shape(inputs=4, width=8, outputs=4), parts(act="relu6"))).eval().double()
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    y = naive.norm(unit.bn1, naive.linear(unit.conv_pw, x.numpy())).clip(0, 6)
    y = naive.conv(y, naive.array(unit.conv_dw.weight), stride=1, padding=1, groups=8)
    y = naive.norm(unit.bn2, y).clip(0, 6)
    y = naive.norm(unit.bn3, naive.linear(unit.conv_pwl, y)) + x.numpy()
    torch.testing.assert_close(unit(x), torch.from_numpy(y))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, True), ({"stride": 2}, False), ({"outputs": 16}, False), ({"kernel": 5, "dilation": 2}, True)],
)
def test_shortcut_where_the_shape_allows_it(changes, expected):
    for width in (8, 24):
        unit = InvertedResidual(Shape(**{"inputs": 8, "width": width, "outputs": 8, **changes}), parts())
        assert unit.has_shortcut == expected
        assert ("drop_path" in layers(unit)) == expected


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kind", list(UNITS))
def test_size(kind, kernel, stride, dilation):
    shape = Shape(inputs=8, width=8, outputs=16, kernel=kernel, stride=stride, dilation=dilation)
    y = UNITS[kind](shape, parts())(torch.randn(2, 8, 20, 31))
    assert y.shape == (2, 16, 20 // stride, (31 + stride - 1) // stride)


@EACH
def test_leaves_what_it_is_given_alone(kind, shape):
    x = torch.randn(2, 8, 6, 6)
    before = x.clone()
    UNITS[kind](shape, parts("standard"))(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("shape", [NARROW, WIDE])
def test_standard_is_before_the_sum(shape, randomise):
    unit = randomise(InvertedResidual(shape, parts("standard"))).eval()
    plain = InvertedResidual(shape, parts()).eval()
    plain.load_state_dict({key: value for key, value in unit.state_dict().items() if "se." not in key}, strict=True)
    force_gates(unit, 0.25)
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(unit(x), x + 0.25 * (plain(x) - x))


def test_standard_is_after_the_activation_where_there_is_one(randomise):
    unit = randomise(DepthwiseSeparable(NARROW, parts("standard", "relu6"))).eval()
    plain = DepthwiseSeparable(NARROW, parts(act="relu6")).eval()
    plain.load_state_dict({key: value for key, value in unit.state_dict().items() if "se." not in key}, strict=True)
    force_gates(unit, -0.5)
    x = torch.randn(2, 8, 6, 6)
    assert plain(x).abs().sum() > 0
    torch.testing.assert_close(unit(x), -0.5 * plain(x))


@pytest.mark.parametrize(
    ("kind", "shape", "projection"),
    [("separable", NARROW, "conv_pw"), ("inverted", NARROW, "conv_pw"), ("inverted", WIDE, "conv_pwl")],
)
def test_depthwise_is_after_the_activation_and_before_the_projection(kind, shape, projection, randomise):
    unit = randomise(UNITS[kind](shape, parts("depthwise"))).eval()
    plain = UNITS[kind](shape, parts()).eval()
    state = {key: value.clone() for key, value in unit.state_dict().items() if "se." not in key}
    state[f"{projection}.weight"] *= -0.5
    plain.load_state_dict(state, strict=True)
    assert unit.se.fc1.in_channels == shape.width
    force_gates(unit, -0.5)
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(unit(x), plain(x))


def test_expands_where_that_widens_nothing_if_told_to():
    unit = InvertedResidual(dataclasses.replace(NARROW, expand=True), parts())
    assert layers(unit) == layers(InvertedResidual(WIDE, parts()))
    assert unit.conv_pw.weight.shape == (8, 8, 1, 1)


def test_two_strides_are_those_of_height_and_width():
    unit = InvertedResidual(dataclasses.replace(WIDE, stride=(2, 1)), parts())
    assert unit(torch.randn(2, 8, 7, 7)).shape == (2, 8, 4, 7)
    assert not unit.has_shortcut


def test_drop_path_leaves_the_shortcut(randomise):
    unit = randomise(InvertedResidual(WIDE, parts(), 0.5)).train()
    torch.manual_seed(1)
    x = torch.randn(64, 8, 4, 4)
    alone = torch.tensor([torch.equal(a, b) for a, b in zip(unit(x), x, strict=True)])
    assert 16 < alone.sum() < 48


@pytest.mark.parametrize("act", list(ACTS))
def test_activations(act, naive):
    unit = ConvUnit(Shape(inputs=2, width=2, outputs=3, kernel=1), parts(act=act)).eval().double()
    x = 8 * torch.randn(2, 2, 4, 4, dtype=torch.float64)
    linear = naive.norm(unit.bn1, naive.linear(unit.conv, x.numpy()))
    expected = linear.clip(0, 6) if act == "relu6" else naive.activations[act](linear)
    assert linear.max() > 6
    assert linear.min() < -3
    torch.testing.assert_close(unit(x), torch.from_numpy(expected))
