"""What the sweeps are given and give: maps in one of two memory formats, and coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from senet.kernels.reference import accumulator_dtype

__all__ = ["coefficients", "dense", "empty_as", "memory_format", "packed"]


def memory_format(x: Tensor) -> torch.memory_format:
    """Channels-last where the map is dense in it and not contiguous as well; else contiguous."""
    if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return torch.contiguous_format
    return torch.channels_last


def dense(x: Tensor, like: Tensor | None = None) -> Tensor:
    """The map itself where it is dense (in the format of ``like``), else a copy that is."""
    return x.contiguous(memory_format=memory_format(x if like is None else like))


def packed(*given: Tensor | None) -> tuple[Any, ...]:
    """Coefficients as the sweeps read them, contiguous. Inductor passes on one row for all images where it may."""
    return tuple(None if t is None else t.contiguous() for t in given)


def empty_as(x: Tensor, shape: Sequence[int] | None = None) -> Tensor:
    """An unwritten map in the dtype and memory format that :func:`dense` gives ``x``, of its shape or another."""
    shape = x.shape if shape is None else shape
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format(x))


def coefficients(x: Tensor) -> Tensor:
    """Unwritten numbers, one for each image and channel of a map: (N, C), in the accumulator's dtype."""
    return x.new_empty(x.shape[:2], dtype=accumulator_dtype(x.dtype))
