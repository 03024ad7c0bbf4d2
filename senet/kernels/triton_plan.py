"""Division of a sweep into programs: one pure function of shape, element size, layout and kind of sweep.

All tuning is here. The numbers aim at H100-class GPUs: 16 bytes a thread and load, rows of at least one 32-byte
sector and at most one 128-byte line, a few loads in flight a thread, and programs enough for 132 multiprocessors.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

__all__ = ["Plan", "Tile", "plan_sweep"]

FILL = 132 * 8  # programs that fill a GPU
MOST_SPLITS = 1024  # of one image: what one program merges


class Tile(NamedTuple):
    """The compile-time half of a launch: how maps lie in memory and what a program takes at a time.

    Attributes:
        layout: ``"last"`` (channels-last), ``"first"`` (contiguous), or ``"flat"`` (contiguous, as runs of elements).
        vector: what the size along which memory runs is divided by when it is handed over, so that the compiler sees
            its divisor: C where channels are last, else H*W.
        unroll: tiles of pixels that a thread holds at once.
        pixels: pixels of one; of a flat tile: elements.
        channels: channels of one; of a flat tile: most planes that it touches.
        stages: how many tiles are under way at once, by the compiler's software pipelining: 1 is none.
        reverse: whether the programs go from the last image to the first: where the sweep before ended, and what
            it read may still be cached.
    """

    layout: str
    vector: int
    unroll: int
    pixels: int
    channels: int
    stages: int
    reverse: bool


class Plan(NamedTuple):
    """A tile, the pixels of an image that a program goes over with it (a multiple of the tile's), and its warps."""

    tile: Tile
    rows: int
    warps: int


def plan_sweep(
    kind: Literal["map", "sums"],
    reads: int,
    shape: tuple[int, int, int],
    itemsize: int,
    layout: Literal["last", "first"],
) -> Plan:
    """The plan of a sweep.

    Args:
        kind: ``"map"`` writes a map and follows a sweep that read the same ones; ``"sums"`` reduces over pixels.
        reads: how many maps it reads.
        shape: N, C, H*W; none is 0.
        itemsize: bytes of an element of the maps.
        layout: ``"last"``: channels-last; ``"first"``: contiguous.
    """
    n, c, area = shape
    warps, wide = 4, 16 // itemsize
    lanes = 32 * warps * wide  # elements that a program moves with one load a thread
    vector = math.gcd(c if layout == "last" else area, wide)
    reverse = kind == "map"
    loads = 2  # in flight a thread and map, as registers allow
    if reads == 1 and (kind == "map" or itemsize > 2):
        loads = 4
    elif reads > 1 and vector == 1 and layout == "first":  # element by element
        loads = 1
    if layout == "last":
        channels = _channels(c, 128 // itemsize)
        pixels = min(_power(area), lanes // channels)
        unroll = min(loads, _power(-(-area // pixels)))
    elif kind == "map" and vector < wide:
        pixels = 2 * lanes
        planes = _power(-(-pixels // area) + 1) if area < pixels else 1
        return Plan(Tile("flat", 1, 1, pixels, planes, 1, reverse), pixels, warps)
    elif area <= 64:
        pixels, unroll = _power(area), 1
        channels = min(_power(c), min(loads, 2) * lanes // pixels)
    else:
        pixels, unroll = min(lanes, _power(area) // loads), loads
        channels = min(_power(c), lanes // pixels)
    tiles = -(-area // (unroll * pixels))
    owners = n * -(-c // channels)
    if kind == "sums":
        splits = min(-(-FILL // owners), -(-tiles // 2), MOST_SPLITS)
        each = -(-tiles // splits)
    else:
        each = max(1, min(4, owners * tiles // (4 * FILL)))
    return Plan(Tile(layout, vector, unroll, pixels, channels, 1, reverse), each * unroll * pixels, warps)


def _channels(c: int, most: int) -> int:
    """Channels of a tile: as many as leave at most a fifth of the last tile's lanes idle, else the fewest idle."""
    most = min(most, _power(c))
    sizes = [size for size in (most, most // 2, most // 4) if size > 0]
    idle = {size: -(-c // size) * size - c for size in sizes}
    return next((size for size in sizes if idle[size] <= c // 5), min(sizes, key=lambda size: idle[size]))


def _power(size: int) -> int:
    """The smallest power of two that is not below ``size``."""
    return 1 << (size - 1).bit_length()
