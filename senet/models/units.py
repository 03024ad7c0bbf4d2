"""Residual units, with the five places where a block can sit (paper, Fig. 5)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from senet.errors import InputError
from senet.models.config import Placement

__all__ = ["UNITS", "BasicBlock", "Bottleneck", "PadShortcut", "PreActBasicBlock", "PreActBottleneck", "Unit"]

MakeBlock = Callable[[int], nn.Module | None]  # channels -> a block, or None


def conv3x3(inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size, without bias."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, groups=groups, bias=False)


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
    """A residual unit: a branch, a shortcut, and at most one block ``se`` at one of the paper's placements.

    Subclasses build their branch in :meth:`build` and run it in :meth:`branch`. Parameter names are timm's.
    """

    expansion = 1
    placements: tuple[Placement, ...] = ("standard", "pre", "post", "identity")
    act: nn.Module  # after the sum

    def __init__(
        self,
        inputs: int,
        planes: int,
        *,
        stride: int,
        groups: int,
        base_width: int,
        shortcut: nn.Module | None,
        placement: Placement,
        make_block: MakeBlock,
    ) -> None:
        super().__init__()
        if placement not in self.placements:
            accepted = ", ".join(map(repr, self.placements))
            raise InputError(f"placement is {placement!r}, but {type(self).__name__} units accept: {accepted}")
        outputs, width = planes * self.expansion, planes * base_width // 64 * groups
        self.build(inputs, width, outputs, stride, groups)
        channels = {"pre": inputs, "3x3": width}.get(placement, outputs)
        self.se = make_block(channels)
        self.placement = placement if self.se is not None else None
        self.downsample = shortcut

    def build(self, inputs: int, width: int, outputs: int, stride: int, groups: int) -> None:
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

    def forward(self, x: Tensor) -> Tensor:
        residual = self.block(self.branch(self.block(x, at="pre")), at="standard")
        return self.block(self.act(residual + self.shortcut(x)), at="post")


class BasicBlock(Unit):
    """conv3x3, BN, ReLU, conv3x3, BN, [SE], + shortcut, ReLU (arXiv 1512.03385)."""

    def build(self, inputs: int, width: int, outputs: int, stride: int, groups: int) -> None:
        self.conv1 = conv3x3(inputs, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(width, outputs, groups=groups)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU(inplace=True)

    def branch(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))


class Bottleneck(Unit):
    """conv1x1, BN, ReLU, conv3x3, BN, ReLU, conv1x1, BN, [SE], + shortcut, ReLU (arXiv 1512.03385; ResNeXt by groups).

    Differs from the paper: the stride sits in the 3x3 convolution, as in timm and torchvision; the authors' release
    has it in the first 1x1.
    """

    expansion = 4
    placements = (*Unit.placements, "3x3")

    def build(self, inputs: int, width: int, outputs: int, stride: int, groups: int) -> None:
        self.conv1 = conv1x1(inputs, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(width, width, stride, groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU(inplace=True)
        self.conv3 = conv1x1(width, outputs)
        self.bn3 = nn.BatchNorm2d(outputs)
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
        return self.block(self.block(self.branch(active), at="standard") + shortcut, at="post")


class PreActBasicBlock(PreActUnit):
    """BN, ReLU, conv3x3, BN, ReLU, conv3x3, [SE], + shortcut."""

    def build(self, inputs: int, width: int, outputs: int, stride: int, groups: int) -> None:
        self.bn1 = nn.BatchNorm2d(inputs)
        self.act1 = nn.ReLU(inplace=True)
        self.conv1 = conv3x3(inputs, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(width, outputs, groups=groups)

    def branch(self, x: Tensor) -> Tensor:
        return self.conv2(self.act2(self.bn2(self.conv1(x))))


class PreActBottleneck(PreActUnit):
    """BN, ReLU, conv1x1, BN, ReLU, conv3x3, BN, ReLU, conv1x1, [SE], + shortcut; the stride in the first 1x1."""

    expansion = 4
    placements = (*Unit.placements, "3x3")

    def build(self, inputs: int, width: int, outputs: int, stride: int, groups: int) -> None:
        self.bn1 = nn.BatchNorm2d(inputs)
        self.act1 = nn.ReLU(inplace=True)
        self.conv1 = conv1x1(inputs, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.act2 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(width, width, groups=groups)
        self.bn3 = nn.BatchNorm2d(width)
        self.act3 = nn.ReLU(inplace=True)
        self.conv3 = conv1x1(width, outputs)

    def branch(self, x: Tensor) -> Tensor:
        x = self.conv2(self.act2(self.bn2(self.conv1(x))))
        return self.conv3(self.act3(self.bn3(self.block(x, at="3x3"))))


UNITS: dict[str, type[Unit]] = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
    "preact_basic": PreActBasicBlock,
    "preact_bottleneck": PreActBottleneck,
}
