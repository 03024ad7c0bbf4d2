"""scSE: a gate for each channel and a gate for each position, side by side."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from senet.blocks.se import SqueezeExcite
from senet.blocks.stages import Recalibrate, check_rank, gate_stage, squeeze_stage, zero
from senet.blocks.width import Rounding
from senet.errors import InputError

__all__ = ["SCSE", "SpatialSE"]


class SpatialSE(Recalibrate):
    """sSE: channels are squeezed instead of positions, x = u * sigmoid(conv1x1(u)) (arXiv 1803.02579, sec. 2.3)."""

    last = ("conv",)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = squeeze_stage("none")
        self.conv = nn.Conv2d(channels, 1, 1)
        self.gate = gate_stage("sigmoid")

    def excite(self, z: Tensor) -> Tensor:
        """One logit for each position: (N, C, H, W) -> (N, 1, H, W)."""
        return self.conv(z)


class SCSE(nn.Module):
    """Concurrent spatial and channel SE: x = max(u * sigmoid(W2 relu(W1 z)), u * sigmoid(w u)), z the global average.

    Roy et al., "Concurrent Spatial and Channel Squeeze & Excitation in Fully Convolutional Networks",
    arXiv 1803.02579.

    Cost: 2C^2/r + C parameters, r = 2, so 8 times those of SE; C multiply-adds at every position for sSE.

    Differs from the paper: the MICCAI text adds the two maps, the authors' code takes the element-wise maximum;
    the code is followed unless ``combine`` says ``"add"``.

    Not for: deep classifiers at the authors' ratio: it was made for segmentation networks with narrow maps. Free SE
    (fuse and fold).

    Args:
        channels: channels C of the map.
        reduction: ratio r of cSE; None means the authors' 2 unless ``hidden_channels`` is given.
        hidden_channels: its hidden width itself.
        rounding: how C / r becomes a whole number.
        bias: whether cSE's layers have biases.
        combine: ``"max"`` or ``"add"``.

    Shapes: (N, C, H, W), (N, C, L) or (N, C, D, H, W) -> the same, dtype and memory format kept.

    Raises:
        InputError: both widths given, a width below 1, or an unknown ``combine``.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: float | None = None,
        hidden_channels: int | None = None,
        rounding: Rounding = "paper",
        bias: bool = True,
        combine: Literal["max", "add"] = "max",
    ) -> None:
        super().__init__()
        if combine not in ("max", "add"):
            raise InputError(f"combine is {combine!r}; accepted: 'max', 'add'")
        if reduction is None and hidden_channels is None:
            reduction = 2
        self.cse = SqueezeExcite(
            channels, reduction=reduction, hidden_channels=hidden_channels, rounding=rounding, bias=bias
        )
        self.sse = SpatialSE(channels)
        self.combine = combine

    def start_as_identity(self) -> None:
        """Makes both gates exactly 1 where the maximum is taken, and 1/2 where they are added: their sum is the map.

        But where half of a value has fewer bits than the value, in float16 below 1.2e-4, the sum may miss it by 6e-8.
        """
        if self.combine == "max":
            self.cse.start_as_identity()
            self.sse.start_as_identity()
        else:
            zero(self.cse.fc2, self.sse.conv)

    def forward(self, u: Tensor) -> Tensor:
        check_rank(self, u)
        by_channel, by_position = self.cse(u), self.sse(u)
        return torch.maximum(by_channel, by_position) if self.combine == "max" else by_channel + by_position
