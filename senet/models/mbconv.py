"""The units of mobile networks: depthwise separable, inverted residual, plain convolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import ClassVar, Literal

from torch import Tensor, nn

from senet.models.net import DropPath

__all__ = [
    "ACTS",
    "UNITS",
    "Act",
    "ConvUnit",
    "DepthwiseSeparable",
    "InvertedResidual",
    "Make",
    "Placement",
    "Shape",
    "Unit",
]

Act = Literal["relu", "relu6", "silu", "hard_swish"]
Placement = Literal["standard", "depthwise"]

ACTS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "relu": partial(nn.ReLU, inplace=True),
        "relu6": partial(nn.ReLU6, inplace=True),
        "silu": partial(nn.SiLU, inplace=True),
        "hard_swish": partial(nn.Hardswish, inplace=True),
    }
)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Shape of a unit's convolutions.

    Attributes:
        inputs, width, outputs: channels of the map that comes in, of the k x k convolution, and at the end.
        kernel: k, odd.
        stride, dilation: of the k x k convolution; two strides are those of the height and of the width.
        expand: whether an inverted residual has its first 1x1 convolution also where that does not widen the map.
    """

    inputs: int
    width: int
    outputs: int
    kernel: int = 3
    stride: int | tuple[int, int] = 1
    dilation: int = 1
    expand: bool = False


@dataclass(frozen=True, kw_only=True)
class Make:
    """Constructors of the parts of a unit that are no convolutions.

    Attributes:
        act: an activation.
        norm: a norm for so many channels.
        block: the block for a place in the unit and so many channels, or None where there is none.
    """

    act: Callable[[], nn.Module]
    norm: Callable[[int], nn.Module]
    block: Callable[[Placement, int], nn.Module | None]


class Unit(nn.Module):
    """Layers that run in the order in which they are declared, and a shortcut around them where the shape allows it.

    At most one of them is a block, ``se``. Subclasses declare theirs in :meth:`build`. Parameter names are timm's.

    Args:
        shape: of its convolutions.
        make: how the rest is made.
        drop_path: the probability that the layers are left out in training, where there is a shortcut.

    Shapes: (N, inputs, H, W) -> (N, outputs, H / stride, W / stride), rounded up.
    """

    may_have_shortcut: ClassVar[bool] = False

    def __init__(self, shape: Shape, make: Make, drop_path: float = 0.0) -> None:
        super().__init__()
        self.se: nn.Module | None = None
        self.build(shape, make)
        self.has_shortcut = self.may_have_shortcut and shape.stride == 1 and shape.inputs == shape.outputs
        if self.has_shortcut:
            self.drop_path = DropPath(drop_path)

    def build(self, shape: Shape, make: Make) -> None:
        """Makes the layers, in order."""
        raise NotImplementedError

    def place(self, block: nn.Module | None) -> None:
        """Declares the block, if there is one here."""
        if block is not None:
            self.se = block

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self.children():
            y = layer(y)
        return y + x if self.has_shortcut else y

    def extra_repr(self) -> str:
        return f"has_shortcut={self.has_shortcut}"


class DepthwiseSeparable(Unit):
    """Depthwise kxk, BN, act, [SE], 1x1, BN, act, [SE] (MobileNet, arXiv 1704.04861, Sec. 3.1); never a shortcut."""

    def build(self, shape: Shape, make: Make) -> None:
        _build_separable(self, shape, make)
        self.act2 = make.act()
        self.place(make.block("standard", shape.outputs))


class InvertedResidual(Unit):
    """1x1, BN, act, depthwise kxk, BN, act, [SE], 1x1, BN, [SE], + shortcut (MobileNetV2, arXiv 1801.04381, Sec. 3.3).

    The first 1x1 convolution is there only where it widens the map, as in all releases, unless ``shape.expand`` says
    otherwise; without it the names are those of a depthwise separable unit.
    """

    may_have_shortcut = True

    def build(self, shape: Shape, make: Make) -> None:
        if shape.width == shape.inputs and not shape.expand:
            _build_separable(self, shape, make)
        else:
            self.conv_pw = _conv(shape.inputs, shape.width)
            self.bn1 = make.norm(shape.width)
            self.act1 = make.act()
            self.conv_dw = _depthwise(shape)
            self.bn2 = make.norm(shape.width)
            self.act2 = make.act()
            self.place(make.block("depthwise", shape.width))
            self.conv_pwl = _conv(shape.width, shape.outputs)
            self.bn3 = make.norm(shape.outputs)
        self.place(make.block("standard", shape.outputs))


class ConvUnit(Unit):
    """Convolution kxk, BN, act: MobileNetV3's last stage (arXiv 1905.02244, Table 1). It has no place for a block."""

    def build(self, shape: Shape, make: Make) -> None:
        self.conv = _conv(shape.inputs, shape.outputs, shape.kernel, shape.stride, shape.dilation)
        self.bn1 = make.norm(shape.outputs)
        self.act1 = make.act()


UNITS: Mapping[str, type[Unit]] = MappingProxyType(
    {"separable": DepthwiseSeparable, "inverted": InvertedResidual, "conv": ConvUnit}
)


def _build_separable(unit: Unit, shape: Shape, make: Make) -> None:
    """The part that two units share: depthwise, BN, act, [SE], 1x1, BN."""
    unit.conv_dw = _depthwise(shape)
    unit.bn1 = make.norm(shape.width)
    unit.act1 = make.act()
    unit.place(make.block("depthwise", shape.width))
    unit.conv_pw = _conv(shape.width, shape.outputs)
    unit.bn2 = make.norm(shape.outputs)


def _conv(
    inputs: int,
    outputs: int,
    kernel: int = 1,
    stride: int | tuple[int, int] = 1,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Conv2d:
    """A convolution that keeps the size but for its stride, without bias."""
    padding = dilation * (kernel - 1) // 2
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)


def _depthwise(shape: Shape) -> nn.Conv2d:
    """One filter a channel."""
    return _conv(shape.width, shape.width, shape.kernel, shape.stride, shape.dilation, groups=shape.width)
