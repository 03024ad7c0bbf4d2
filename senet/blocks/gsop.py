"""GSoP: the gate of a channel from the covariances of channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from senet.blocks.stages import Gate, Recalibrate, gate_stage, squeeze_stage
from senet.errors import InputError
from senet.kernels import reference

__all__ = ["GSoP"]


class GSoP(Recalibrate):
    """Global second-order pooling: x = u * sigmoid(W2 rows(bn(cov(v)))), v = relu(bn(W1 relu(u))) of d channels.

    Gao et al., "Global Second-order Pooling Convolutional Networks", arXiv 1811.12006, section 3: ``rows`` is a
    convolution of each row of the d x d covariance by itself, to 4 numbers a row.

    Cost: 5dC + 4d^2 parameters or so, far more than SE; dCHW + d^2HW + 4d^2 + 4dC multiply-adds.

    Differs from the paper: its text has a non-linearity after each convolution; the authors' code, followed here, has
    none between the last two, and a ReLU before the first. Their code has ``stride=2`` where the map is 56x56.

    Not for: a place where SE's price matters, as a convolution at every position comes first; maps with few positions,
    whose covariances are noise, of one position zero; learning rates of SE: a gate has many more
    inputs here, and one step from the identity moved a ResNet-18's logits a hundred times as far.

    Args:
        channels: channels C of the map.
        hidden_channels: d, the channels whose covariance is taken; 128 in the paper.
        stride: of the first convolution: 2 takes every other position.
        gate: the final non-linearity.

    Shapes: (N, C, H, W) -> the same, dtype and memory format kept; with ``stride=1`` (N, C, L) and (N, C, D, H, W) too.

    Raises:
        InputError: ``hidden_channels`` or ``stride`` is below 1.
    """

    last = ("fc",)

    def __init__(self, channels: int, *, hidden_channels: int = 128, stride: int = 1, gate: Gate = "sigmoid") -> None:
        super().__init__()
        if hidden_channels < 1:
            raise InputError(f"hidden_channels is {hidden_channels}; accepted: 1 or more")
        if stride < 1:
            raise InputError(f"stride is {stride}; accepted: 1 or more")
        if stride > 1:
            self.ranks = (4,)
        d = hidden_channels
        self.squeeze = squeeze_stage("none")
        self.reduce = nn.Conv2d(channels, d, 1, stride=stride)
        self.bn = nn.BatchNorm2d(d)
        self.row_bn = nn.BatchNorm2d(d)
        self.row_conv = nn.Conv2d(d, 4 * d, (d, 1), groups=d)
        self.fc = nn.Conv2d(4 * d, channels, 1)
        self.act = nn.ReLU()
        self.gate = gate_stage(gate)

    def excite(self, z: Tensor) -> Tensor:
        """One logit a channel: (N, C, H, W) -> (N, C, 1, 1)."""
        v = self.act(self.bn(self.reduce(self.act(z))))
        rows = _covariance(v.flatten(2)).unsqueeze(-1)
        return self.fc(self.row_conv(self.row_bn(rows)))


def _covariance(v: Tensor) -> Tensor:
    """(N, d, L) -> (N, d, d), divided by L; summed in float32 or wider: sums over a map overflow half precision."""
    wide = v.to(reference.accumulator_dtype(v.dtype))
    centred = wide - wide.mean(2, keepdim=True)
    return (torch.bmm(centred, centred.mT) / v.shape[2]).to(v.dtype)
