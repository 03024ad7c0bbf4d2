"""Selective kernels: convolutions of several extents, and a gate that chooses between them."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

from senet.blocks.stages import Recalibrate, check_rank
from senet.blocks.width import Rounding, hidden_width
from senet.errors import InputError
from senet.kernels import reference

__all__ = ["SelectiveKernel"]


class SumSqueeze(nn.Module):
    """Global average of the sum of M branches that lie side by side: (N, M * C, H, W) -> (N, C, 1, 1)."""

    def __init__(self, branches: int) -> None:
        super().__init__()
        self.branches = branches

    def forward(self, u: Tensor) -> Tensor:
        return reference.squeeze_avg(u).unflatten(1, (self.branches, -1)).sum(1)


class BranchSoftmax(nn.Module):
    """Gates of a channel that sum to 1 over M branches: (N, M * C, 1, 1) -> the same."""

    def __init__(self, branches: int) -> None:
        super().__init__()
        self.branches = branches

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (self.branches, -1)).softmax(1).flatten(1, 2)


class Select(Recalibrate):
    """The gate of every branch's every channel, for M branches side by side: (N, M * C, H, W) -> the same."""

    def __init__(self, channels: int, branches: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = SumSqueeze(branches)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.bn = nn.BatchNorm2d(hidden)
        self.act = nn.ReLU()
        self.fc2 = nn.Conv2d(hidden, branches * channels, 1, bias=False)
        self.gate = BranchSoftmax(branches)

    def excite(self, z: Tensor) -> Tensor:
        """Logits: (N, C, 1, 1) -> (N, M * C, 1, 1)."""
        return self.fc2(self.act(self.bn(self.fc1(z))))


class SelectiveKernel(nn.Module):
    """Selective kernels: x = sum_m a_m * relu(bn(conv_m(u))), a = softmax over m of W_m relu(bn(W z)).

    Li et al., "Selective Kernel Networks", arXiv 1903.06586, section 3.1: branch m is a 3x3 convolution with dilation m
    in groups, z the global average of the sum of all branches.

    Cost: M * 9C^2/G parameters for the branches and (M + 1) * C * d for the gates; the branches' multiply-adds are
    those of M grouped convolutions at every position.

    Differs from the paper: nowhere in its formulas; it replaces a unit's 3x3 convolution, while as a block here it
    follows one. timm's module splits the channels among the branches unless told not to.

    Not for: a trained network: it replaces the map by convolutions of it, so it cannot start as the identity; a place
    where the parameters of SE are the budget.

    Args:
        channels: channels C of the map.
        branches: how many, M: 2 in the paper.
        groups: of each convolution, G, dividing C; None means the paper's 32, or the greatest common divisor of that
            and C.
        reduction: C / d; None means 16 unless ``hidden_channels`` is given, and a d of 32 at least.
        hidden_channels: d itself.
        rounding: how C / r becomes a whole number.

    Shapes: (N, C, H, W) -> (N, C, H, W), dtype and memory format kept.

    Raises:
        InputError: ``groups`` does not divide C, fewer than 2 branches, both widths given, or a width below 1.
    """

    def __init__(
        self,
        channels: int,
        *,
        branches: int = 2,
        groups: int | None = None,
        reduction: float | None = None,
        hidden_channels: int | None = None,
        rounding: Rounding = "paper",
    ) -> None:
        super().__init__()
        if branches < 2:
            raise InputError(f"branches is {branches}; accepted: 2 or more, between which the gate chooses")
        groups = math.gcd(channels, 32) if groups is None else groups
        if groups < 1 or channels % groups:
            raise InputError(f"groups is {groups}; accepted: a divisor of the {channels} channels")
        hidden = hidden_width(
            channels, reduction=reduction, hidden_channels=hidden_channels, rounding=rounding, least=32
        )
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=m, dilation=m, groups=groups, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            )
            for m in range(1, branches + 1)
        )
        self.select = Select(channels, branches, hidden)

    def start_as_identity(self) -> None:
        """Refused.

        Raises:
            InputError: always; what comes out are convolutions of the map.
        """
        raise InputError("SelectiveKernel cannot start as the identity: it gates convolutions of the map, not the map")

    def forward(self, u: Tensor) -> Tensor:
        check_rank(self, u, (4,))
        v = u.to(self.select.fc1.weight.dtype)
        selected = self.select(torch.cat([branch(v) for branch in self.branches], dim=1))
        parts = selected.chunk(len(self.branches), dim=1)
        return functools.reduce(torch.add, [parts[m] for m in range(len(self.branches))]).to(u.dtype)
