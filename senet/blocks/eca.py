"""Efficient channel attention: a short convolution across channels instead of two layers."""

from __future__ import annotations

import math

from torch import Tensor, nn

from senet.blocks.stages import Gate, Recalibrate, gate_stage, squeeze_stage
from senet.errors import InputError

__all__ = ["ECA", "eca_kernel_size"]


def eca_kernel_size(channels: int, *, gamma: float = 2, beta: float = 1) -> int:
    """The adaptive kernel size k = |log2(C) / gamma + beta / gamma|, made odd (arXiv 1910.03151, eq. 12).

    An even value is raised by one, as in the authors' code: C = 64 gives 3, 128 to 1024 give 5, 2048 gives 7.

    Raises:
        InputError: ``gamma`` is 0 or below.

    Differs from the paper: nowhere; timm's module never goes below 3, which matters under 8 channels only.
    """
    if gamma <= 0:
        raise InputError(f"gamma is {gamma}; accepted: above 0 (2 in the paper)")
    k = int(abs((math.log2(channels) + beta) / gamma))
    return k if k % 2 else k + 1


class ECA(Recalibrate):
    """Efficient channel attention: x = u * sigmoid(conv1d_k(z)), z the global average of u.

    Wang et al., "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks", arXiv 1910.03151,
    section 3.2. The convolution goes across channels, without bias or reduction.

    Cost: a kernel of 3 to 7 parameters, and kC multiply-adds; the passes of SE.

    Differs from the paper: nowhere in its rule for k; the authors' released networks have 3, 5, 5 and 7 in their four
    stages (``kernel_size``), where the rule gives 5, 5, 5 and 7.

    Not for: channels whose neighbours mean nothing to them, as behind a channel shuffle or in a network that was
    trained without it: a channel sees those that are next to it.

    Args:
        channels: channels C of the map.
        kernel_size: the odd kernel size k; None: :func:`eca_kernel_size`.
        gamma: of the adaptive rule.
        beta: of the adaptive rule.
        gate: the final non-linearity.

    Shapes: (N, C, H, W), (N, C, L) or (N, C, D, H, W) -> the same, dtype and memory format kept.

    Raises:
        InputError: an even kernel size, or one below 1.
    """

    last = ("conv",)

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int | None = None,
        gamma: float = 2,
        beta: float = 1,
        gate: Gate = "sigmoid",
    ) -> None:
        super().__init__()
        k = eca_kernel_size(channels, gamma=gamma, beta=beta) if kernel_size is None else kernel_size
        if k < 1 or k % 2 == 0:
            raise InputError(f"kernel_size is {k}; accepted: an odd number, so that the output has C channels")
        self.squeeze = squeeze_stage("avg")
        self.conv = nn.Conv1d(1, 1, k, padding=k // 2, bias=False)
        self.gate = gate_stage(gate)

    def excite(self, z: Tensor) -> Tensor:
        """The convolution along channels: (N, C, 1, 1) -> (N, C, 1, 1)."""
        across_channels = self.conv(z.flatten(2).transpose(1, 2))
        return across_channels.transpose(1, 2).unsqueeze(-1)
