"""Residual units, with the places where a block can sit: the paper's five (Fig. 5), and one beside the branch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from senet.blocks import Recalibrate
from senet.errors import InputError
from senet.models.net import DropPath

__all__ = [
    "UNITS",
    "BasicBlock",
    "Bottleneck",
    "PadShortcut",
    "Placement",
    "PreActBasicBlock",
    "PreActBottleneck",
    "PreActUnit",
    "Shape",
    "Unit",
]

Placement = Literal["standard", "pre", "post", "identity", "parallel", "3x3"]
MakeBlock = Callable[[int], nn.Module | None]  # channels -> a block, or None


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Shape of a unit's convolutions.

    Attributes:
        inputs, width, outputs: channels of the map that comes in, of the 3x3 convolution's output, and at the end.
        narrow: channels that a bottleneck's first 1x1 convolution puts out.
        stride: of the unit.
        stride_in: which convolution of a bottleneck has the stride.
        groups: of the 3x3 convolution.
        dilation: of the 3x3 convolutions in place of a stride.
        first_dilation: of the one that would have had the stride.
    """

    inputs: int
    width: int
    outputs: int
    narrow: int
    stride: int = 1
    stride_in: Literal["1x1", "3x3"] = "3x3"
    groups: int = 1
    dilation: int = 1
    first_dilation: int = 1


def conv3x3(inputs: int, outputs: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size, without bias."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=dilation, dilation=dilation, groups=groups, bias=False)


def conv1x1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without bias."""
    return nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)


class PadShortcut(nn.Module):
    """A shortcut without parameters: subsample, and fill the new channels with zeros (arXiv 1512.03385, option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        if outputs < inputs:
            raise InputError(f"a 'pad' shortcut cannot take {inputs} channels to {outputs}; give shortcut='projection'")
        self.stride = stride
        self.new_channels = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        return F.pad(x, (0, 0, 0, 0, 0, self.new_channels))


class Unit(nn.Module):
    """A residual unit: a branch, a shortcut, and at most one block ``se`` at one of the placements.

    Subclasses build their branch in :meth:`build` and run it in :meth:`branch`. Parameter names are timm's.
    """

    expansion = 1
    placements: tuple[Placement, ...] = ("standard", "pre", "post", "identity", "parallel")
    act: nn.Module  # after the sum

    def __init__(
        self,
        shape: Shape,
        *,
        shortcut: nn.Module | None,
        placement: Placement,
        make_block: MakeBlock,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if placement not in self.placements:
            accepted = ", ".join(map(repr, self.placements))
            raise InputError(f"placement is {placement!r}, but {type(self).__name__} units accept: {accepted}")
        self.build(shape)
        channels = {"pre": shape.inputs, "3x3": shape.width}.get(placement, shape.outputs)
        self.se = make_block(channels)
        if placement == "parallel" and not isinstance(self.se, Recalibrate | None):
            raise InputError(
                f"placement is 'parallel', but {type(self.se).__name__} gives no gate that another map could be scaled "
                "by; accepted: blocks that are a gate alone, such as 'se'"
            )
        self.placement = placement if self.se is not None else None
        self.drop_path = DropPath(drop_path)
        self.downsample = shortcut

    def build(self, shape: Shape) -> None:
        """Makes the layers of the branch."""
        raise NotImplementedError

    def branch(self, x: Tensor) -> Tensor:
        """The residual F(x), with the block where placement is ``"3x3"``."""
        raise NotImplementedError

    def block(self, x: Tensor, *, at: Placement) -> Tensor:
        """The block, if it sits at this place; else x."""
        return self.se(x) if self.se is not None and self.placement == at else x

    def shortcut(self, x: Tensor) -> Tensor:
        """The other summand: x, or x brought to the branch's shape."""
        x = x if self.downsample is None else self.downsample(x)
        return self.block(x, at="identity")

    def summed(self, residual: Tensor, shortcut: Tensor) -> Tensor:
        """The sum of both maps; with placement ``"parallel"`` the branch's is scaled by the gate of the other first."""
        if self.placement == "parallel" and self.se is not None:
            # (A block that was taken out or frozen leaves what takes a map alone.)
            ours = isinstance(self.se, Recalibrate)
            residual = self.se(residual, source=shortcut) if ours else self.se(residual)
        return self.drop_path(residual) + shortcut

    def forward(self, x: Tensor) -> Tensor:
        residual = self.block(self.branch(self.block(x, at="pre")), at="standard")
        return self.block(self.act(self.summed(residual, self.shortcut(x))), at="post")


class BasicBlock(Unit):
    """conv3x3, BN, ReLU, conv3x3, BN, [SE], + shortcut, ReLU (arXiv 1512.03385)."""

    def build(self, shape: Shape) -> None:
        self.conv1 = conv3x3(shape.inputs, shape.width, shape.stride, dilation=shape.first_dilation)
        self.bn1 = nn.BatchNorm2d(shape.width)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(shape.width, shape.outputs, dilation=shape.dilation)
        self.bn2 = nn.BatchNorm2d(shape.outputs)
        self.act = nn.ReLU(inplace=True)

    def branch(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))


class Bottleneck(Unit):
    """conv1x1, BN, ReLU, conv3x3, BN, ReLU, conv1x1, BN, [SE], + shortcut, ReLU (arXiv 1512.03385, 1611.05431)."""

    expansion = 4
    placements = (*Unit.placements, "3x3")

    def build(self, shape: Shape) -> None:
        early, late = (shape.stride, 1) if shape.stride_in == "1x1" else (1, shape.stride)
        self.conv1 = conv1x1(shape.inputs, shape.narrow, early)
        self.bn1 = nn.BatchNorm2d(shape.narrow)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(shape.narrow, shape.width, late, shape.groups, shape.first_dilation)
        self.bn2 = nn.BatchNorm2d(shape.width)
        self.act2 = nn.ReLU(inplace=True)
        self.conv3 = conv1x1(shape.width, shape.outputs)
        self.bn3 = nn.BatchNorm2d(shape.outputs)
        self.act = nn.ReLU(inplace=True)

    def branch(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.block(self.act2(self.bn2(self.conv2(x))), at="3x3")
        return self.bn3(self.conv3(x))


class PreActUnit(Unit):
    """A unit with norm and ReLU before its convolutions and nothing after the sum (arXiv 1603.05027).

    Where the shape changes, the first norm and ReLU serve the shortcut too, which is then a bare 1x1 convolution,
    as in the authors' code; placement ``"pre"`` then reaches the shortcut through the shared norm.
    """

    bn1: nn.Module
    act1: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        active = self.act1(self.bn1(self.block(x, at="pre")))
        shortcut = self.shortcut(x if self.downsample is None else active)
        residual = self.block(self.branch(active), at="standard")
        return self.block(self.summed(residual, shortcut), at="post")


class PreActBasicBlock(PreActUnit):
    """BN, ReLU, conv3x3, BN, ReLU, conv3x3, [SE], + shortcut."""

    def build(self, shape: Shape) -> None:
        self.bn1 = nn.BatchNorm2d(shape.inputs)
        self.act1 = nn.ReLU(inplace=True)
        self.conv1 = conv3x3(shape.inputs, shape.width, shape.stride, dilation=shape.first_dilation)
        self.bn2 = nn.BatchNorm2d(shape.width)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(shape.width, shape.outputs, dilation=shape.dilation)

    def branch(self, x: Tensor) -> Tensor:
        return self.conv2(self.act2(self.bn2(self.conv1(x))))


class PreActBottleneck(PreActUnit):
    """BN, ReLU, conv1x1, BN, ReLU, conv3x3, BN, ReLU, conv1x1, [SE], + shortcut."""

    expansion = 4
    placements = (*Unit.placements, "3x3")

    def build(self, shape: Shape) -> None:
        early, late = (shape.stride, 1) if shape.stride_in == "1x1" else (1, shape.stride)
        self.bn1 = nn.BatchNorm2d(shape.inputs)
        self.act1 = nn.ReLU(inplace=True)
        self.conv1 = conv1x1(shape.inputs, shape.narrow, early)
        self.bn2 = nn.BatchNorm2d(shape.narrow)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(shape.narrow, shape.width, late, shape.groups, shape.first_dilation)
        self.bn3 = nn.BatchNorm2d(shape.width)
        self.act3 = nn.ReLU(inplace=True)
        self.conv3 = conv1x1(shape.width, shape.outputs)

    def branch(self, x: Tensor) -> Tensor:
        x = self.conv2(self.act2(self.bn2(self.conv1(x))))
        return self.conv3(self.act3(self.bn3(self.block(x, at="3x3"))))


UNITS: dict[str, type[Unit]] = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
    "preact_basic": PreActBasicBlock,
    "preact_bottleneck": PreActBottleneck,
}
