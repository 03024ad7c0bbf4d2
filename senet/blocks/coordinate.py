"""Coordinate attention: a gate for each row and one for each column."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from senet.blocks import stages
from senet.blocks.stages import Activation, Gate, Recalibrate, activation_stage, gate_stage, one_at_zero, zero
from senet.blocks.width import Rounding, hidden_width
from senet.kernels import reference

__all__ = ["CoordinateAttention"]


class StripSqueeze(nn.Module):
    """Means of rows, then of columns: (N, C, H, W) -> (N, C, H + W, 1), at least float32."""

    def forward(self, u: Tensor) -> Tensor:
        dtype = reference.accumulator_dtype(u.dtype)
        columns = u.mean(2, keepdim=True, dtype=dtype).transpose(2, 3)
        return torch.cat([u.mean(3, keepdim=True, dtype=dtype), columns], dim=2)


class CoordinateAttention(Recalibrate):
    """Coordinate attention: x_ij = u_ij * sigmoid(W_h f_i) * sigmoid(W_w f_j), f = act(bn(W [rows; columns])).

    Hou et al., "Coordinate Attention for Efficient Mobile Network Design", arXiv 2103.02907, equations 4 to 9.

    Cost: 3CK parameters with K hidden channels, and 2CK (H + W) multiply-adds; a gate as large as the map.

    Differs from the paper: nowhere that its text says; that the non-linearity is h-swish, that K is 8 at least and that
    the layers have biases are the authors' code's. timm's module has K = C / 24, rounded, and no biases.

    Not for: maps whose positions mean nothing, or of a few pixels, where rows and columns are noise; free SE (fuse and
    fold), as the gate sees more than the average.

    Args:
        channels: channels C of the map.
        reduction: C / K; None means 32 unless ``hidden_channels`` is given, and a K of 8 at least.
        hidden_channels: K itself.
        rounding: how C / r becomes a whole number.
        bias: whether the layers have biases.
        activation: the inner non-linearity.
        gate: the final non-linearity, of rows and of columns; the gate of an element is the product of both.

    Shapes: (N, C, H, W) -> (N, C, H, W), dtype and memory format kept.

    Raises:
        InputError: both widths given, or a width below 1.
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
        activation: Activation = "hard_swish",
        gate: Gate = "sigmoid",
    ) -> None:
        super().__init__()
        hidden = hidden_width(
            channels, reduction=reduction, hidden_channels=hidden_channels, rounding=rounding, default=32, least=8
        )
        self.squeeze = StripSqueeze()
        self.conv1 = nn.Conv2d(channels, hidden, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.act = activation_stage(activation)
        self.conv_h = nn.Conv2d(hidden, channels, 1, bias=bias)
        self.conv_w = nn.Conv2d(hidden, channels, 1, bias=bias)
        self.strip_gate = gate_stage(gate)
        self.gate = nn.Identity()  # what it passes on is the gate of each element, whole, for all who listen to it

    def excite(self, z: Tensor, height: int) -> Tensor:  # type: ignore[override]
        """Gates of rows times gates of columns, at least float32: (N, C, H + W, 1) -> (N, C, H, W)."""
        f = self.act(self.bn1(self.conv1(z)))
        dtype = reference.accumulator_dtype(z.dtype)
        rows = self.strip_gate(self.conv_h(f[:, :, :height]).to(dtype))
        columns = self.strip_gate(self.conv_w(f[:, :, height:]).to(dtype))
        return rows * columns.transpose(2, 3)

    def gates(self, u: Tensor) -> Tensor:
        """The gate of a map, (N, C, H, W)."""
        stages.check_rank(self, u, self.ranks)
        return stages.excited(self, self.squeeze(u), height=u.shape[2])

    def start_as_identity(self) -> None:
        """As :meth:`Recalibrate.start_as_identity`, of both gates."""
        self.strip_gate = one_at_zero(self.strip_gate, type(self).__name__)
        zero(self.conv_h, self.conv_w)
