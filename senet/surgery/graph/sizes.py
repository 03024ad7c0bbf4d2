"""Inputs of a module at other sizes and batches than the example's: a reading is believed only if it holds there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from senet.surgery.graph.ops import is_map
from senet.surgery.graph.run import random_like
from senet.surgery.graph.walk import Reading

__all__ = ["elsewhere", "other_sizes", "smaller"]

_MOST = 2**22  # positions of all maps together


def other_sizes(size: Sequence[int], *, square: bool = False) -> list[list[int]]:
    """Other sizes of a map: a little larger, much larger, and small; no side as another, or all alike.

    Args:
        size: the sides of the map.
        square: whether all sides are to be alike.
    """
    if square:
        return [[side + more for side in size] for more in (1, 2, 5)] + [[2 * side for side in size], [5 for _ in size]]
    return [
        [side + 1 + axis for axis, side in enumerate(size)],
        [side * (2 + axis) for axis, side in enumerate(size)],
        [(5, 7, 3)[axis] for axis in range(len(size))],
    ]


def elsewhere(reading: Reading, *, larger: bool = True, square: bool = False) -> Iterator[list[Tensor]]:
    """Yields inputs of a module at other sizes and batches: odd and, if asked for, larger; square or not at all.

    Where all its maps have one size each side grows by another number; else all are multiplied.
    """
    maps = [t.shape[2:] for t in reading.shapes if is_map(t) and t.shape[2:].numel() > 1]
    if len(set(maps)) == 1:
        for plus in (1, 2) if square else (1,):
            yield _resized(reading, partial(_plus, plus, square), 1)
    changes = [(2, 2, 2)] if square else ([(3, 2, 3)] if len(set(maps)) > 1 else []) + ([(2, 3, 2)] if larger else [])
    for more, factors in enumerate(changes):
        if sum(size.numel() for size in maps) * 6 < _MOST:
            yield _resized(reading, partial(_times, factors), more)


def smaller(reading: Reading, *, square: bool = False) -> list[Tensor] | None:
    """Inputs of a module whose maps have a few positions; None where that makes none smaller."""
    maps = {t.shape[2:] for t in reading.shapes if is_map(t) and t.shape[2:].numel() > 1}
    if len(maps) != 1 or min(size.numel() for size in maps) <= 49:
        return None
    return _resized(reading, lambda size: [min(side, 5 + 2 * axis * (not square)) for axis, side in enumerate(size)], 1)


def _plus(more: int, square: bool, size: torch.Size) -> list[int]:
    return [side + more + axis * (not square) for axis, side in enumerate(size)]


def _times(factors: Sequence[int], size: torch.Size) -> list[int]:
    return [side * factor for side, factor in zip(size, factors, strict=False)]


def _resized(reading: Reading, resize: Callable[[torch.Size], list[int]], more: int) -> list[Tensor]:
    """Random inputs with maps of another size, and of more images if all tensors have the same number."""
    same = len({t.shape[0] for t in reading.shapes if t.ndim}) == 1
    made = []
    for seed, t in enumerate(reading.shapes):
        shape = list(t.shape)
        if shape and same:
            shape[0] += more
        if is_map(t) and t.shape[2:].numel() > 1:
            shape[2:] = resize(t.shape[2:])
        made.append(random_like(torch.empty(shape, dtype=t.dtype, device="meta"), seed))
    return made
