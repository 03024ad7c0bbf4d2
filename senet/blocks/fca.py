"""FcaNet: squeeze by cosines of several frequencies, of which the average is the first."""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet.blocks.se import SqueezeExcite
from senet.blocks.stages import Gate, no_autocast
from senet.blocks.width import Rounding
from senet.errors import InputError
from senet.kernels import reference

__all__ = ["FREQUENCIES", "FcaSE"]

PARTS = 7  # the frequency plane has 7 x 7 parts

FREQUENCIES = tuple(
    zip(
        (0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2, 4, 6, 3, 5, 5, 2, 6, 5, 5, 3, 3, 4, 2, 2, 6, 1),
        (0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2, 6, 3, 3, 3, 5, 1, 1, 2, 4, 2, 1, 1, 3, 0, 5, 3),
        strict=True,
    )
)
"""Vertical and horizontal frequency on a 7x7 grid, best first, as ranked by the authors on ImageNet."""


class CosineSqueeze(nn.Module):
    """One coefficient of the 2-D discrete cosine transform for each channel: (N, C, H, W) -> (N, C, 1, 1).

    Channels are split among the frequencies in order. At least float32.
    """

    frequencies: Tensor

    def __init__(self, channels: int, top: int, grid: tuple[int, int] | None) -> None:
        super().__init__()
        chosen = [FREQUENCIES[c * top // channels] for c in range(channels)]
        self.register_buffer("frequencies", torch.tensor(chosen).T.contiguous(), persistent=False)
        self.grid = grid

    def bases(self, height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Orthonormal cosines of each channel's frequency along both axes: (C, 1, H) and (C, W, 1)."""
        vertical, horizontal = self.frequencies
        return _cosines(vertical, height, dtype)[:, None, :], _cosines(horizontal, width, dtype)[:, :, None]

    def forward(self, u: Tensor) -> Tensor:
        wide = u.to(reference.accumulator_dtype(u.dtype))
        height, width = self.grid or (max(PARTS, n // PARTS * PARTS) for n in u.shape[2:])
        if u.shape[2:] != (height, width):
            wide = F.adaptive_avg_pool2d(wide, (height, width))
        rows, columns = self.bases(height, width, wide.dtype)
        with no_autocast(u.device.type):
            return rows @ (wide @ columns)


def _cosines(frequency: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """(C,) -> (C, length): sqrt(1 or 2, over length) * cos(pi f (p + 1/2) / length), f in parts of the plane."""
    positions = torch.arange(length, device=frequency.device, dtype=dtype) + 0.5
    angles = (frequency * (length // PARTS)).to(dtype)[:, None] * positions * (math.pi / length)
    return angles.cos() * torch.where(frequency == 0, 1.0, 2.0).to(dtype).div(length).sqrt()[:, None]


class FcaSE(SqueezeExcite):
    """Frequency channel attention: x = u * sigmoid(W2 relu(W1 z)), z_c = sum_hw u_c(h, w) cos_f(h) cos_g(w).

    Qin et al., "FcaNet: Frequency Channel Attention Networks", arXiv 2012.11879, sec. 3: each of k groups of
    channels has a coefficient of the discrete cosine transform as its squeeze; that of frequency (0, 0) is the average.

    Cost: 2C^2/r parameters, as SE without biases; 2C^2/r + CHW + CH multiply-adds.

    Differs from the paper: its cosines have no constant factor; the authors' code, followed here, makes them
    orthonormal, so that frequency (0, 0) is sqrt(HW) times the average. The code fixes the grid of each stage (56, 28,
    14, 7) and pools maps of another size to it; here ``grid=None`` takes the largest multiple of 7 that the map has,
    which is the same at 224 pixels. The code refuses C that k does not divide; here groups then differ by one channel.

    Not for: free SE (fuse and fold need the plain average); networks that see other sizes than they were trained with,
    unless ``grid`` is given: a frequency is of the grid, and another size means another frequency in the
    image; layers in float16 where means of maps get near 65504 / sqrt(HW), 1170 at 56x56, which the squeeze exceeds.

    Weights of the authors load as they are; their bases, ``dct_layer.weight``, are compared with those here.

    Args:
        channels: channels C of the map.
        top: how many frequencies k: 1, 2, 4, 8, 16 or 32.
        grid: height and width that maps are pooled to, multiples of 7; None: as described.
        reduction: ratio r; None means 16 unless ``hidden_channels`` is given.
        hidden_channels: the hidden width itself.
        rounding: how C / r becomes a whole number.
        bias: whether both layers have biases.
        gate: the final non-linearity.

    Shapes: (N, C, H, W) -> (N, C, H, W), dtype and memory format kept.

    Raises:
        InputError: another ``top`` or ``grid``, both widths given, or a width below 1.
    """

    squeeze: CosineSqueeze
    ranks = (4,)

    def __init__(
        self,
        channels: int,
        *,
        top: int = 16,
        grid: tuple[int, int] | None = None,
        reduction: float | None = None,
        hidden_channels: int | None = None,
        rounding: Rounding = "paper",
        bias: bool = False,
        gate: Gate = "sigmoid",
    ) -> None:
        if top not in (1, 2, 4, 8, 16, 32):
            raise InputError(f"top is {top}; accepted: 1, 2, 4, 8, 16, 32")
        if grid is not None and (min(grid) < PARTS or any(n % PARTS for n in grid)):
            raise InputError(f"grid is {tuple(grid)}; accepted: height and width, multiples of 7")
        super().__init__(
            channels,
            reduction=reduction,
            hidden_channels=hidden_channels,
            rounding=rounding,
            bias=bias,
            gate=gate,
        )
        self.squeeze = CosineSqueeze(channels, top, grid)
        self.register_load_state_dict_pre_hook(_compare_bases)


def _compare_bases(module: nn.Module, state_dict: MutableMapping[str, Any], prefix: str, *_rest: Any) -> None:
    """Takes the authors' bases out of what is loaded, if they are those that the block computes."""
    assert isinstance(module, FcaSE)
    theirs = state_dict.pop(f"{prefix}dct_layer.weight", None)
    if theirs is None:
        return
    rows, columns = module.squeeze.bases(theirs.shape[1], theirs.shape[2], torch.float64)
    ours = rows.mT * columns.mT
    if ours.shape != theirs.shape or not torch.allclose(ours, theirs.to(ours), atol=1e-5):
        raise InputError(f"{prefix}dct_layer.weight are not the cosines of this block; give its top and channels")
