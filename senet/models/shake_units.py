"""Residual units of two branches, whose outputs are mixed at random in training."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet.models.net import DropPath
from senet.models.shake_mix import ShakeMix
from senet.models.units import Shape, conv1x1, conv3x3

__all__ = ["SHAKE_UNITS", "ShakeBasic", "ShakeBottleneck", "ShakePlacement", "ShakeUnit", "ShiftedShortcut"]

ShakePlacement = Literal["standard", "branch"]


class ShiftedShortcut(nn.Module):
    """Two 1x1 convolutions side by side, the second on the map shifted by a pixel right and down, then BN.

    Where they have a stride, the second so sees other pixels than the first (the authors' ``shakeshakeblock.lua``).
    Shapes: (N, inputs, H, W) -> (N, outputs, H / stride, W / stride), rounded up; outputs are even.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv1x1(inputs, outputs // 2, stride)
        self.conv2 = conv1x1(inputs, outputs // 2, stride)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        shifted = F.pad(x, (1, -1, 1, -1))
        return self.bn(torch.cat((self.conv1(x), self.conv2(shifted)), dim=1))


class ShakeUnit(nn.Module):
    """A residual unit of two branches of the same form, mixed; blocks sit on the mixture or at the end of each branch.

    Args:
        shape: of each branch.
        mix: mixes them.
        placement: ``"standard"``, one block on the mixture, or ``"branch"``, one at the end of each branch.
        make_block: channels -> a block, or None.
        drop_path: probability of leaving out the mixture.
    """

    expansion = 1

    def __init__(
        self,
        shape: Shape,
        *,
        mix: ShakeMix,
        placement: ShakePlacement,
        make_block: Callable[[int], nn.Module | None],
        drop_path: float,
    ) -> None:
        super().__init__()
        self.act = self.activation()
        self.branch1 = self.branch(shape)
        self.branch2 = self.branch(shape)
        if placement == "branch":
            for branch in (self.branch1, self.branch2):
                block = make_block(shape.outputs)
                if block is not None:
                    branch.add_module("se", block)
        self.mix = mix
        self.se = make_block(shape.outputs) if placement == "standard" else None
        self.drop_path = DropPath(drop_path)
        self.downsample = self.shortcut(shape) if shape.stride > 1 or shape.inputs != shape.outputs else None

    def activation(self) -> nn.Module:
        """The non-linearity that is outside of the branches."""
        raise NotImplementedError

    def branch(self, shape: Shape) -> nn.Sequential:
        """The layers of a branch."""
        raise NotImplementedError

    def shortcut(self, shape: Shape) -> nn.Module:
        """Builds the layers that bring the input to the shape of the output."""
        raise NotImplementedError

    def residual(self, x: Tensor) -> Tensor:
        """The branches on their input, mixed, with the block."""
        mixed = self.mix(self.branch1(x), self.branch2(x))
        return self.drop_path(mixed if self.se is None else self.se(mixed))


class ShakeBasic(ShakeUnit):
    """ReLU, then twice [conv3x3, BN, ReLU, conv3x3, BN], mixed, + shortcut. No ReLU after the sum.

    Where the shape changes, the shortcut too starts from the ReLU, and is a :class:`ShiftedShortcut`.
    """

    def activation(self) -> nn.Module:
        return nn.ReLU()  # not in place: the shortcut needs its input

    def branch(self, shape: Shape) -> nn.Sequential:
        return nn.Sequential(
            OrderedDict(
                conv1=conv3x3(shape.inputs, shape.width, shape.stride),
                bn1=nn.BatchNorm2d(shape.width),
                act1=nn.ReLU(inplace=True),
                conv2=conv3x3(shape.width, shape.outputs),
                bn2=nn.BatchNorm2d(shape.outputs),
            )
        )

    def shortcut(self, shape: Shape) -> nn.Module:
        return ShiftedShortcut(shape.inputs, shape.outputs, shape.stride)

    def forward(self, x: Tensor) -> Tensor:
        active = self.act(x)
        shortcut = x if self.downsample is None else self.downsample(active)
        return self.residual(active) + shortcut


class ShakeBottleneck(ShakeUnit):
    """Twice [conv1x1, BN, ReLU, grouped conv3x3, BN, ReLU, conv1x1, BN], mixed, + shortcut, ReLU.

    The branches are ResNeXt's (arXiv 1611.05431, Fig. 3c); where the shape changes, the shortcut is conv1x1, BN.
    """

    expansion = 4

    def activation(self) -> nn.Module:
        return nn.ReLU(inplace=True)

    def branch(self, shape: Shape) -> nn.Sequential:
        return nn.Sequential(
            OrderedDict(
                conv1=conv1x1(shape.inputs, shape.narrow),
                bn1=nn.BatchNorm2d(shape.narrow),
                act1=nn.ReLU(inplace=True),
                conv2=conv3x3(shape.narrow, shape.width, shape.stride, shape.groups),
                bn2=nn.BatchNorm2d(shape.width),
                act2=nn.ReLU(inplace=True),
                conv3=conv1x1(shape.width, shape.outputs),
                bn3=nn.BatchNorm2d(shape.outputs),
            )
        )

    def shortcut(self, shape: Shape) -> nn.Module:
        return nn.Sequential(
            conv1x1(shape.inputs, shape.outputs, shape.stride),
            nn.BatchNorm2d(shape.outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.act(self.residual(x) + shortcut)


SHAKE_UNITS: dict[str, type[ShakeUnit]] = {"basic": ShakeBasic, "bottleneck": ShakeBottleneck}
