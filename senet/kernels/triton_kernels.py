# mypy: disable-error-code="import-untyped, no-untyped-def"
"""The sweeps themselves: Triton kernels that go over the wide maps once.

Two kinds. *Maps* write a map from maps and (N, C) coefficients. *Sums* reduce maps over their pixels: to one number
an image and channel, or to one a range of pixels where an image is split over programs (added up afterwards in a
fixed order: no atomics, so the same bits every time). All is computed in the accumulator dtype ``acc`` and rounded
once, at the store. ``None`` for a coefficient removes its term.
"""

from __future__ import annotations

import triton
import triton.language as tl

from senet.kernels.triton_tiles import activate, locate, sum_over_rows

__all__ = [
    "affine_backward_kernel",
    "affine_kernel",
    "gate_act_backward_kernel",
    "gate_act_kernel",
    "merge_moments_kernel",
    "moments_kernel",
    "spread_act_kernel",
    "spread_kernel",
    "squeeze_act_kernel",
]


@triton.jit
def _coefficient(values, where, valid):
    if values is None:
        return None
    else:  # noqa: RET505  # a kernel's compile-time branches: what follows a return is compiled too
        return tl.load(values + where, mask=valid, other=0.0)


@triton.jit
def _centred(x, center):
    if center is None:
        return x
    else:  # noqa: RET505
        return x - center


@triton.jit
def _affine(x, center, scale, shift):
    u = _centred(x, center)
    if scale is not None:
        u = u * scale
    if shift is not None:
        u = u + shift
    return u


@triton.jit
def affine_kernel(
    x, center, scale, shift, shortcut, out, sizes, relu: tl.constexpr, acc: tl.constexpr, tile: tl.constexpr
):
    """Map: out = act(scale * (x - center) + shift + shortcut)."""
    at, step, offset, pixel, valid, left, where, _ = locate(sizes, tile)
    m, a, b = _coefficient(center, where, valid), _coefficient(scale, where, valid), _coefficient(shift, where, valid)
    for first in tl.range(0, left, tile.unroll * tile.pixels, num_stages=tile.stages):
        mask = valid & (pixel < left - first)
        y = tl.load(x + at + offset, mask=mask, other=0.0, eviction_policy="evict_first").to(acc)
        y = _affine(y, m, a, b)
        if shortcut is not None:
            y += tl.load(shortcut + at + offset, mask=mask, other=0.0, eviction_policy="evict_first").to(acc)
        if relu:
            y = tl.where(y <= 0, 0.0, y)
        tl.store(out + at + offset, y, mask=mask)
        at += step


@triton.jit
def spread_kernel(g, x, center, p, q, r, dx, sizes, acc: tl.constexpr, tile: tl.constexpr):
    """Map: dx = p * g + q * (x - center) + r."""
    at, step, offset, pixel, valid, left, where, _ = locate(sizes, tile)
    m, a = _coefficient(center, where, valid), _coefficient(p, where, valid)
    b, c = _coefficient(q, where, valid), _coefficient(r, where, valid)
    for first in tl.range(0, left, tile.unroll * tile.pixels, num_stages=tile.stages):
        mask = valid & (pixel < left - first)
        y = tl.load(g + at + offset, mask=mask, other=0.0).to(acc) * a
        if q is not None:
            v = tl.load(x + at + offset, mask=mask, other=0.0, eviction_policy="evict_first").to(acc)
            y += _centred(v, m) * b
        if r is not None:
            y += c
        tl.store(dx + at + offset, y, mask=mask)
        at += step


@triton.jit
def gate_act_kernel(x, center, scale, shift, s, out, sizes, act: tl.constexpr, acc: tl.constexpr, tile: tl.constexpr):
    """Map: out = s * act(scale * (x - center) + shift)."""
    at, step, offset, pixel, valid, left, where, _ = locate(sizes, tile)
    m, a, b = _coefficient(center, where, valid), _coefficient(scale, where, valid), _coefficient(shift, where, valid)
    gate = _coefficient(s, where, valid)
    for first in tl.range(0, left, tile.unroll * tile.pixels, num_stages=tile.stages):
        mask = valid & (pixel < left - first)
        v = tl.load(x + at + offset, mask=mask, other=0.0, eviction_policy="evict_first").to(acc)
        h, _slope = activate(_affine(v, m, a, b), act)
        tl.store(out + at + offset, h * gate, mask=mask)
        at += step


@triton.jit
def spread_act_kernel(
    g, x, center, scale, shift, p, e, q, r, dx, sizes, act: tl.constexpr, acc: tl.constexpr, tile: tl.constexpr
):
    """Map: dx = act'(u) * (p * g + e) + q * (x - center) + r, u = scale * (x - center) + shift."""
    at, step, offset, pixel, valid, left, where, _ = locate(sizes, tile)
    m, a, b = _coefficient(center, where, valid), _coefficient(scale, where, valid), _coefficient(shift, where, valid)
    k, d = _coefficient(p, where, valid), _coefficient(e, where, valid)
    by, plus = _coefficient(q, where, valid), _coefficient(r, where, valid)
    for first in tl.range(0, left, tile.unroll * tile.pixels, num_stages=tile.stages):
        mask = valid & (pixel < left - first)
        v = tl.load(x + at + offset, mask=mask, other=0.0, eviction_policy="evict_first").to(acc)
        _h, slope = activate(_affine(v, m, a, b), act)
        y = slope * (tl.load(g + at + offset, mask=mask, other=0.0, eviction_policy="evict_first").to(acc) * k + d)
        if q is not None:
            y += _centred(v, m) * by
        if r is not None:
            y += plus
        tl.store(dx + at + offset, y, mask=mask)
        at += step


@triton.jit
def _merged(pivot, rest, square, count):
    """Chan's rule over the slots of a channel: means (pivot + rest), centred second moments, counts to one of each.

    A mean is kept as two numbers, or rounding it would show in the second moment where it is far larger than the
    deviation.
    """
    total = sum_over_rows(count)
    middle = sum_over_rows((pivot + rest) * count) / total
    rest = tl.where(count > 0, pivot - middle + rest, 0.0)
    left = sum_over_rows(rest * count) / total
    apart = rest - left
    return middle, left, sum_over_rows(square + apart * apart * count)


@triton.jit
def moments_kernel(x, pivots, rests, squares, sizes, acc: tl.constexpr, tile: tl.constexpr):
    """Sums: mean (in two numbers) and centred second moment, of each slot of the tile as it walks, then merged."""
    at, step, offset, pixel, valid, left, _, partial = locate(sizes, tile)
    count = tl.full((tile.unroll, tile.pixels, 1), 0.0, acc)
    pivot = tl.full((tile.unroll, tile.pixels, tile.channels), 0.0, acc)  # the first pixel of a slot
    rest = tl.full((tile.unroll, tile.pixels, tile.channels), 0.0, acc)  # its mean's distance from that
    square = tl.full((tile.unroll, tile.pixels, tile.channels), 0.0, acc)
    for first in tl.range(0, left, tile.unroll * tile.pixels, num_stages=tile.stages):
        inside = pixel < left - first
        v = tl.load(x + at + offset, mask=valid & inside, other=0.0).to(acc)
        pivot = tl.where(first == 0, v, pivot)
        share = tl.where(inside, 1 / (count + 1), 0.0)
        between = v - pivot - rest
        rest += between * share
        square += between * between * (count * share)
        count += tl.where(inside, 1.0, 0.0)
        at += step
    pivot, rest, square = _merged(pivot, rest, square, count)
    known = tl.reshape(valid, (tile.channels,))
    where = tl.reshape(partial, (tile.channels,))
    tl.store(pivots + where, pivot, mask=known)
    tl.store(rests + where, rest, mask=known)
    tl.store(squares + where, square, mask=known)


@triton.jit
def merge_moments_kernel(
    pivots, rests, squares, mean, left, m2, sizes, acc: tl.constexpr, most: tl.constexpr, channels: tl.constexpr
):
    """The same over the at ``most`` programs of an image: (N, splits, C) to (N, C)."""
    width, area, rows, splits = sizes
    blocks = (width + channels - 1) // channels
    n = (tl.program_id(0) // blocks).to(tl.int64)
    channel = tl.program_id(0) % blocks * channels + tl.arange(0, channels)
    split = tl.arange(0, most)[:, None]
    mask = (split < splits) & (channel < width)[None, :]
    at = n * splits * width + split * width + channel[None, :]
    count = tl.where(split < splits, tl.minimum(area - split.to(tl.int64) * rows, rows), 0).to(acc)
    pivot, rest = tl.load(pivots + at, mask=mask, other=0.0), tl.load(rests + at, mask=mask, other=0.0)
    pivot, rest, square = _merged(pivot, rest, tl.load(squares + at, mask=mask, other=0.0), count)
    rounded = pivot + rest
    tl.store(mean + n * width + channel, rounded, mask=channel < width)
    tl.store(left + n * width + channel, pivot - rounded + rest, mask=channel < width)
    tl.store(m2 + n * width + channel, square, mask=channel < width)


@triton.jit
def _store_sum(sums, slots, partial, valid):
    channels: tl.constexpr = slots.shape[2]
    tl.store(sums + tl.reshape(partial, (channels,)), sum_over_rows(slots), mask=tl.reshape(valid, (channels,)))


@triton.jit
def affine_backward_kernel(g, out, x, center, g1, a, b, sizes, acc: tl.constexpr, tile: tl.constexpr):
    """Map and sums: g1 = g where out > 0; the sums of g1 and of g1 * (x - center)."""
    at, step, offset, pixel, valid, left, where, partial = locate(sizes, tile)
    m = _coefficient(center, where, valid)
    first_sum = tl.full((tile.unroll, tile.pixels, tile.channels), 0.0, acc)
    second_sum = tl.full((tile.unroll, tile.pixels, tile.channels), 0.0, acc)
    for first in tl.range(0, left, tile.unroll * tile.pixels, num_stages=tile.stages):
        mask = valid & (pixel < left - first)
        v = tl.load(g + at + offset, mask=mask, other=0.0).to(acc)
        if out is not None:
            y = tl.load(out + at + offset, mask=mask, other=0.0, eviction_policy="evict_first").to(acc)
            v = tl.where(y <= 0, 0.0, v)
            tl.store(g1 + at + offset, v, mask=mask)
        u = tl.where(mask, _centred(tl.load(x + at + offset, mask=mask, other=0.0).to(acc), m), 0.0)
        first_sum += v
        second_sum += v * u
        at += step
    _store_sum(a, first_sum, partial, valid)
    _store_sum(b, second_sum, partial, valid)


@triton.jit
def squeeze_act_kernel(
    x, center, scale, shift, mean_h, d0, d1, sizes, act: tl.constexpr, acc: tl.constexpr, tile: tl.constexpr
):
    """Sums of act(u), act'(u) and act'(u) * (x - center), not yet divided by H*W."""
    at, step, offset, pixel, valid, left, where, partial = locate(sizes, tile)
    m, a, b = _coefficient(center, where, valid), _coefficient(scale, where, valid), _coefficient(shift, where, valid)
    sum_h = tl.full((tile.unroll, tile.pixels, tile.channels), 0.0, acc)
    sum_slope = tl.full((tile.unroll, tile.pixels, tile.channels), 0.0, acc)
    sum_moment = tl.full((tile.unroll, tile.pixels, tile.channels), 0.0, acc)
    for first in tl.range(0, left, tile.unroll * tile.pixels, num_stages=tile.stages):
        mask = valid & (pixel < left - first)
        v = tl.load(x + at + offset, mask=mask, other=0.0).to(acc)
        h, slope = activate(_affine(v, m, a, b), act)
        slope = tl.where(mask, slope, 0.0)
        sum_h += tl.where(mask, h, 0.0)
        sum_slope += slope
        sum_moment += slope * _centred(v, m)
        at += step
    _store_sum(mean_h, sum_h, partial, valid)
    _store_sum(d0, sum_slope, partial, valid)
    _store_sum(d1, sum_moment, partial, valid)


@triton.jit
def gate_act_backward_kernel(
    g, x, center, scale, shift, p0, p1, p2, sizes, act: tl.constexpr, acc: tl.constexpr, tile: tl.constexpr
):
    """Sums of g * act(u), g * act'(u) and g * act'(u) * (x - center)."""
    at, step, offset, pixel, valid, left, where, partial = locate(sizes, tile)
    m, a, b = _coefficient(center, where, valid), _coefficient(scale, where, valid), _coefficient(shift, where, valid)
    sum_h = tl.full((tile.unroll, tile.pixels, tile.channels), 0.0, acc)
    sum_slope = tl.full((tile.unroll, tile.pixels, tile.channels), 0.0, acc)
    sum_moment = tl.full((tile.unroll, tile.pixels, tile.channels), 0.0, acc)
    for first in tl.range(0, left, tile.unroll * tile.pixels, num_stages=tile.stages):
        mask = valid & (pixel < left - first)
        v = tl.load(x + at + offset, mask=mask, other=0.0).to(acc)
        gradient = tl.load(g + at + offset, mask=mask, other=0.0).to(acc)
        h, slope = activate(_affine(v, m, a, b), act)
        slope = slope * gradient
        sum_h += h * gradient
        sum_slope += slope
        sum_moment += slope * _centred(v, m)
        at += step
    _store_sum(p0, sum_h, partial, valid)
    _store_sum(p1, sum_slope, partial, valid)
    _store_sum(p2, sum_moment, partial, valid)
