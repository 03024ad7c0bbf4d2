"""CBAM: a gate for each channel, then a gate for each position."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from senet.blocks.se import SqueezeExcite
from senet.blocks.stages import Gate, Recalibrate, check_rank, gate_stage
from senet.blocks.width import Rounding
from senet.errors import InputError
from senet.kernels import reference

__all__ = ["CBAM", "ChannelAttention", "SpatialAttention"]


class AvgMaxSqueeze(nn.Module):
    """Average and maximum over positions, side by side: (N, C, H, W) -> (N, C, 2, 1)."""

    def forward(self, u: Tensor) -> Tensor:
        return torch.cat([reference.squeeze_avg(u), reference.squeeze_max(u)], dim=2)


class MaxMeanOverChannels(nn.Module):
    """Maximum and mean over channels, at each position: (N, C, H, W) -> (N, 2, H, W)."""

    def forward(self, u: Tensor) -> Tensor:
        dtype = reference.accumulator_dtype(u.dtype)
        return torch.cat([u.amax(1, keepdim=True).to(dtype), u.mean(1, keepdim=True, dtype=dtype)], dim=1)


class ChannelAttention(SqueezeExcite):
    """CBAM's channel gate: sigmoid(mlp(avg(u)) + mlp(max(u))), one MLP for both (arXiv 1807.06521, eq. 2).

    Arguments as in :class:`SqueezeExcite`, which this is but for its squeeze.
    """

    ranks = (4,)

    def __init__(
        self,
        channels: int,
        *,
        reduction: float | None = None,
        hidden_channels: int | None = None,
        rounding: Rounding = "paper",
        bias: bool = True,
        gate: Gate = "sigmoid",
    ) -> None:
        super().__init__(
            channels,
            reduction=reduction,
            hidden_channels=hidden_channels,
            rounding=rounding,
            bias=bias,
            gate=gate,
        )
        self.squeeze = AvgMaxSqueeze()

    def excite(self, z: Tensor) -> Tensor:
        """The sum of both logits: (N, C, 2, 1) -> (N, C, 1, 1)."""
        return super().excite(z).sum(2, keepdim=True)


class SpatialAttention(Recalibrate):
    """CBAM's spatial gate: sigmoid(bn(conv_k([max_c(u), mean_c(u)]))) (arXiv 1807.06521, eq. 3).

    Differs from the paper: the formula has no norm; the authors' code, followed here, normalises the logits
    (eps 1e-5, momentum 0.01).
    """

    last = ("bn",)
    ranks = (4,)

    def __init__(self, *, kernel_size: int = 7, gate: Gate = "sigmoid") -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise InputError(
                f"spatial_kernel is {kernel_size}; accepted: an odd number, so that the map keeps its size"
            )
        self.squeeze = MaxMeanOverChannels()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)
        self.gate = gate_stage(gate)

    def excite(self, z: Tensor) -> Tensor:
        """One logit for each position: (N, 2, H, W) -> (N, 1, H, W)."""
        return self.bn(self.conv(z))


class CBAM(nn.Module):
    """Convolutional block attention: v = u * sigmoid(mlp(avg(u)) + mlp(max(u))), x = v * sigmoid(bn(conv_k(v))).

    Woo et al., "CBAM: Convolutional Block Attention Module", arXiv 1807.06521, section 3, with the details of the
    authors' code. The convolution sees v's maximum and mean over channels, at each position.

    Cost: 2C^2/r parameters and 4C^2/r multiply-adds, as the MLP runs twice; the convolution's 2k^2 parameters and
    2k^2 HW multiply-adds; two products and four reductions of the map.

    Differs from the paper: its formula has no norm; the authors' code, followed here, normalises the logits of
    positions (eps 1e-5, momentum 0.01).

    Not for: training that memory traffic bounds: it has more than twice SE's passes; free SE (fuse and fold), as its
    gates see more than the average.

    Args:
        channels: channels C of the map.
        reduction: ratio r of the channel gate; None means 16 unless ``hidden_channels`` is given.
        hidden_channels: its hidden width itself.
        rounding: how C / r becomes a whole number.
        bias: whether its layers have biases.
        spatial_kernel: odd kernel size of the spatial gate.
        gate: the final non-linearity of both.

    Shapes: (N, C, H, W) -> (N, C, H, W), dtype and memory format kept.

    Raises:
        InputError: an even kernel, both widths given, or a width below 1.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: float | None = None,
        hidden_channels: int | None = None,
        rounding: Rounding = "paper",
        bias: bool = True,
        spatial_kernel: int = 7,
        gate: Gate = "sigmoid",
    ) -> None:
        super().__init__()
        self.channel = ChannelAttention(
            channels,
            reduction=reduction,
            hidden_channels=hidden_channels,
            rounding=rounding,
            bias=bias,
            gate=gate,
        )
        self.spatial = SpatialAttention(kernel_size=spatial_kernel, gate=gate)

    def start_as_identity(self) -> None:
        """Makes both gates exactly 1, as :meth:`Recalibrate.start_as_identity` does."""
        self.channel.start_as_identity()
        self.spatial.start_as_identity()

    def forward(self, u: Tensor) -> Tensor:
        check_rank(self, u, (4,))
        return self.spatial(self.channel(u))
