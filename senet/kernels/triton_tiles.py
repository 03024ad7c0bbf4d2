# mypy: disable-error-code="import-untyped, no-untyped-def"
"""Parts shared by the Triton kernels: a program's part of the maps, sums over its pixels, activations.

A program owns some channels of one image and a range of its pixels, and walks over them in tiles
(unroll, pixels, channels). The compiler's coalescing gives each thread 16 contiguous bytes, along channels in a
channels-last map and along pixels in a contiguous one. Every element of a tile is a slot that accumulates for
itself, in registers; slots are reduced once, at the end.

A ``flat`` program owns a run of elements of a contiguous map, whatever planes they lie in: planes whose rows of
bytes are not aligned, 7 x 7 say, are still moved 16 bytes at a time.

Only builtins and functions of this file are called (``tl.sum`` and its like are jit functions themselves): so the
kernels can be interpreted in a process that also compiles them.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["activate", "locate", "sum_over_rows"]


@triton.jit
def locate(sizes, tile: tl.constexpr):
    """Locates the part of the maps that this program works on.

    ``sizes`` are C, H*W, pixels a program and programs an image; for flat tiles H*W, N*C*H*W and
    ceil(2^31 / H*W), or 0 where planes are longer than tiles. All that can pass 2^31 is computed in 64 bits;
    offsets within a tile stay in 32.

    Returns:
        offset of the first element in the map, step from tile to tile; offsets, pixel numbers and valid channels of
        the first tile; number of pixels owned; where the coefficients lie, and where a partial sum goes.
    """
    i = tl.program_id(0)
    if tile.reverse:
        i = tl.num_programs(0) - 1 - i
    if tile.layout == "flat":
        return _run(i, sizes, tile)
    else:  # noqa: RET505  # compile-time branches: what follows a return is compiled too
        return _block(i, sizes, tile)


@triton.jit
def _run(i, sizes, tile: tl.constexpr):
    """A run of elements, whatever planes they lie in."""
    area, total, magic = sizes
    start = i.to(total.dtype) * tile.pixels
    plane = start // area
    within = start - plane * area
    pixel = tl.arange(0, tile.pixels)
    left = tl.minimum(total - start, tile.pixels).to(tl.int32)
    if tile.channels > 1:  # several planes a tile: x // area by a product, exact for these few thousand numbers
        crossed = tl.umulhi((within.to(tl.int32) + pixel) * 2, magic)
    else:
        crossed = (within + pixel >= area).to(tl.int32)
    return start.to(tl.int64), 0, pixel, pixel, pixel < left, left, plane.to(tl.int64) + crossed, i


@triton.jit
def _block(i, sizes, tile: tl.constexpr):
    """Some channels of one image, and a range of its pixels; neighbours in time are neighbours in memory."""
    channels, area, rows, splits = sizes
    if tile.layout == "last":
        channels = channels * tile.vector
    else:
        area = area * tile.vector
    blocks = (channels + tile.channels - 1) // tile.channels
    if tile.layout == "last":
        block, split, n = i % blocks, i // blocks % splits, (i // blocks // splits).to(tl.int64)
    else:
        block, split, n = i // splits % blocks, i % splits, (i // splits // blocks).to(tl.int64)
    first = block * tile.channels
    start = split.to(tl.int64) * rows
    left = tl.minimum(area - start, rows).to(tl.int32)
    pixel = tl.arange(0, tile.unroll)[:, None, None] * tile.pixels + tl.arange(0, tile.pixels)[None, :, None]
    channel = tl.arange(0, tile.channels)[None, None, :]
    if tile.layout == "last":
        base, step, offset = n * channels * area + start * channels + first, channels, pixel * channels + channel
    else:
        base, step, offset = (n * channels + first) * area + start, 1, channel * area + pixel
    where, partial = n * channels + first + channel, (n * splits + split) * channels + first + channel
    return base, step * tile.unroll * tile.pixels, offset, pixel, channel < channels - first, left, where, partial


@triton.jit
def _add(a, b):
    return a + b


@triton.jit
def sum_over_rows(x):
    """Sum over all axes but the last, always in the same order."""
    if len(x.shape) == 3:
        x = tl.reduce(x, 0, _add)
    return tl.reduce(x, 0, _add)


@triton.jit
def activate(u, act: tl.constexpr):
    """(act(u), act'(u)); at the kinks and for NaN the derivative is PyTorch's."""
    if act == "none":
        return u, tl.full(u.shape, 1.0, u.dtype)
    elif act == "relu":  # noqa: RET505
        return tl.where(u <= 0, 0.0, u), tl.where(u <= 0, 0.0, tl.full(u.shape, 1.0, u.dtype))
    elif act == "relu6":
        inner = tl.where(u >= 6, 6.0, u)
        slope = tl.where((u <= 0) | (u >= 6), 0.0, tl.full(u.shape, 1.0, u.dtype))
        return tl.where(u <= 0, 0.0, inner), slope
    elif act == "silu":
        s = 1 / (1 + tl.exp(-u))
        return u * s, s * (1 + u * (1 - s))
    elif act == "hard_swish":
        gate = tl.where(u <= -3, 0.0, tl.where(u >= 3, 1.0, u / 6 + 0.5))
        return u * gate, tl.where(u <= -3, 0.0, tl.where(u >= 3, 1.0, u / 3 + 0.5))
    else:
        tl.static_assert(act == "gelu", "act: none, relu, relu6, silu, hard_swish or gelu")
        below = 0.5 * (1 + tl.erf(u * 0.7071067811865476))
        return u * below, below + u * (tl.exp(-0.5 * u * u) * 0.3989422804014327)
