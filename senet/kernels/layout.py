"""Inputs and outputs of the sweeps: maps of two spatial axes in one of two memory formats, and coefficients.

Maps of other ranks are seen as such, without a copy: (N, C, L) as (N, C, 1, L) and (N, C, D, H, W) as (N, C, D*H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from senet.errors import InputError
from senet.kernels.reference import accumulator_dtype

__all__ = ["RANKS", "coefficients", "dense", "empty_as", "memory_format", "packed", "pixels", "planar", "shaped"]

RANKS = {3: "(N, C, L)", 4: "(N, C, H, W)", 5: "(N, C, D, H, W)"}
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def memory_format(x: Tensor) -> torch.memory_format:
    """Channels-last where the map (rank 4 or 5) is dense in it and not contiguous as well; else contiguous."""
    channels_last = _CHANNELS_LAST[x.ndim]
    if x.is_contiguous() or not x.is_contiguous(memory_format=channels_last):
        return torch.contiguous_format
    return channels_last


def pixels(x: Tensor) -> int:
    """Positions of an image, H*W for a map (N, C, H, W)."""
    return x.shape[2:].numel()


def dense(x: Tensor, like: Tensor | None = None) -> Tensor:
    """The map as the sweeps read it: of rank 4, and dense in the format of ``like``, or else in its own.

    A view where it is dense already. Differentiable.

    Args:
        x: map of rank 3, 4 or 5.
        like: map of any of these ranks.

    Raises:
        InputError: another rank.
    """
    x = _with_rows(x)
    last = memory_format(x if like is None else _with_rows(like)) != torch.contiguous_format
    return planar(x.contiguous(memory_format=_CHANNELS_LAST[x.ndim] if last else torch.contiguous_format))


def planar(x: Tensor) -> Tensor:
    """The map with two spatial axes: a view where it is dense, since depth and height follow each other in memory."""
    x = _with_rows(x)
    return x.flatten(2, 3) if x.ndim == 5 else x


def shaped(x: Tensor, shape: Sequence[int]) -> Tensor:
    """The map of a sweep in the shape, and of the rank, of the site's; undoes the view of :func:`dense`."""
    return x if len(shape) == 4 else x.view(shape)


def packed(*given: Tensor | None) -> tuple[Any, ...]:
    """Coefficients as the sweeps read them, contiguous. Inductor passes on one row for all images where it may."""
    return tuple(None if t is None else t.contiguous() for t in given)


def empty_as(x: Tensor, shape: Sequence[int] | None = None) -> Tensor:
    """An unwritten map in the dtype and memory format that :func:`dense` gives ``x``, of its shape or another."""
    like = _with_rows(x)
    shape = x.shape if shape is None else shape
    wanted = (*shape[:2], 1, shape[2]) if x.ndim == 3 else shape
    out = torch.empty(wanted, dtype=x.dtype, device=x.device, memory_format=memory_format(like))
    return out.squeeze(2) if x.ndim == 3 else out


def coefficients(x: Tensor) -> Tensor:
    """Unwritten numbers, one for each image and channel of a map: (N, C), in the accumulator's dtype."""
    return x.new_empty(x.shape[:2], dtype=accumulator_dtype(x.dtype))


def _with_rows(x: Tensor) -> Tensor:
    """The map, with a height of 1 if it has none: PyTorch has channels-last formats for two or three axes."""
    if x.ndim not in RANKS:
        raise InputError(f"the map has shape {tuple(x.shape)}, rank {x.ndim}; accepted: {', '.join(RANKS.values())}")
    return x.unsqueeze(2) if x.ndim == 3 else x
