# mypy: disable-error-code="import-untyped"
"""The sweeps over wide maps on GPUs: each reads every map it needs from memory once.

Maps are (N, C, H, W) in float16, bfloat16, float32 or float64, all of a call in one dtype and one layout, dense
contiguous or dense channels-last. Coefficients and sums are contiguous (N, C) in the accumulator dtype, float32, or
float64 where the maps are. Results depend on the input alone, not on the order in which programs run. ``plan`` of
every function replaces what :func:`senet.kernels.triton_plan.plan_sweep` would choose.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import triton
import triton.language as tl
from torch import Tensor

from senet.kernels import triton_kernels as kernels
from senet.kernels.layout import memory_format
from senet.kernels.reference import accumulator_dtype
from senet.kernels.triton_plan import Plan, plan_sweep

__all__ = [
    "affine",
    "affine_backward",
    "gate_act",
    "gate_act_backward",
    "moments",
    "spread",
    "spread_act",
    "squeeze_act",
]


def moments(x: Tensor, *, plan: Plan | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean over H*W, what its rounding left, and the sum of the squared distances from it. Reads ``x``.

    Centred within each program and merged by Chan's rule (Chan, Golub, LeVeque 1983), never E[x^2] - E[x]^2.
    """
    plan, splits = _planned("sums", 1, x, plan)
    parts = _sums(3, x, splits)
    _launch(kernels.moments_kernel, x, (x, *parts), plan, splits)
    n, c, area = _shape(x)
    mean, rest, m2 = _added(_sums(3, x, 1))
    most = triton.next_power_of_2(splits)
    channels = max(1, 2048 // most)
    with torch.cuda.device_of(x):
        kernels.merge_moments_kernel[(n * triton.cdiv(c, channels),)](
            *parts,
            mean,
            rest,
            m2,
            (c, area, plan.rows, splits),
            acc=_accumulator(x),
            most=most,
            channels=channels,
            enable_fp_fusion=True,
        )
    return mean, rest, m2


def affine(
    x: Tensor,
    center: Tensor | None,
    scale: Tensor,
    shift: Tensor | None,
    shortcut: Tensor | None,
    relu: bool,
    *,
    plan: Plan | None = None,
) -> Tensor:
    """The map act(scale * (x - center) + shift + shortcut). Reads ``x`` and ``shortcut``, writes the result.

    ``center``, ``shift`` and ``shortcut`` may be ``None``: 0.
    """
    out = torch.empty_like(x)
    _launch(
        kernels.affine_kernel,
        x,
        (x, center, scale, shift, shortcut, out),
        *_planned("map", 1 if shortcut is None else 2, x, plan),
        relu=relu,
    )
    return out


def affine_backward(
    g: Tensor, out: Tensor | None, x: Tensor, center: Tensor | None, *, plan: Plan | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(g1, sum of g1, sum of g1 * (x - center)), with g1 = g where ``out`` > 0.

    Reads ``g``, ``out`` and ``x``, writes g1. Where ``out`` is ``None`` nothing is written: g1 is ``g`` itself.
    """
    plan, splits = _planned("sums", 2 if out is None else 3, x, plan)
    g1 = None if out is None else torch.empty_like(x)
    parts = _sums(2, x, splits)
    _launch(kernels.affine_backward_kernel, x, (g, out, x, center, g1, *parts), plan, splits)
    a, b = _added(parts)
    return (g if g1 is None else g1), a, b


def spread(
    g: Tensor,
    x: Tensor,
    center: Tensor | None,
    p: Tensor,
    q: Tensor | None,
    r: Tensor | None,
    *,
    plan: Plan | None = None,
) -> Tensor:
    """The map p * g + q * (x - center) + r. Reads ``g``, and ``x`` unless ``q`` is ``None``; writes the result."""
    dx = torch.empty_like(x)
    _launch(kernels.spread_kernel, x, (g, x, center, p, q, r, dx), *_planned("map", 1 if q is None else 2, x, plan))
    return dx


def squeeze_act(
    x: Tensor,
    center: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    act: str,
    *,
    plan: Plan | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Means over H*W of act(u), act'(u) and act'(u) * (x - center), u = scale * (x - center) + shift. Reads ``x``."""
    plan, splits = _planned("sums", 1, x, plan)
    parts = _sums(3, x, splits)
    _launch(kernels.squeeze_act_kernel, x, (x, center, scale, shift, *parts), plan, splits, act=act)
    mean_h, d0, d1 = (total.div_(_shape(x)[2]) for total in _added(parts))
    return mean_h, d0, d1


def gate_act(
    x: Tensor,
    center: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    s: Tensor,
    act: str,
    *,
    plan: Plan | None = None,
) -> Tensor:
    """The map s * act(u), u = scale * (x - center) + shift. Reads ``x``, writes the result."""
    out = torch.empty_like(x)
    _launch(kernels.gate_act_kernel, x, (x, center, scale, shift, s, out), *_planned("map", 1, x, plan), act=act)
    return out


def gate_act_backward(
    g: Tensor,
    x: Tensor,
    center: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    act: str,
    *,
    plan: Plan | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over H*W of g * act(u), g * act'(u) and g * act'(u) * (x - center). Reads ``g`` and ``x``."""
    plan, splits = _planned("sums", 2, x, plan)
    parts = _sums(3, x, splits)
    _launch(kernels.gate_act_backward_kernel, x, (g, x, center, scale, shift, *parts), plan, splits, act=act)
    p0, p1, p2 = _added(parts)
    return p0, p1, p2


def spread_act(
    g: Tensor,
    x: Tensor,
    center: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    p: Tensor,
    e: Tensor,
    q: Tensor | None,
    r: Tensor | None,
    act: str,
    *,
    plan: Plan | None = None,
) -> Tensor:
    """The map act'(u) * (p * g + e) + q * (x - center) + r. Reads ``g`` and ``x``, writes the result.

    ``q`` and ``r`` may be ``None``: 0.
    """
    dx = torch.empty_like(x)
    tensors = (g, x, center, scale, shift, p, e, q, r, dx)
    _launch(kernels.spread_act_kernel, x, tensors, *_planned("map", 2, x, plan), act=act)
    return dx


def _shape(x: Tensor) -> tuple[int, int, int]:
    """N, C, H*W."""
    return x.shape[0], x.shape[1], x.shape[2] * x.shape[3]


def _layout(x: Tensor) -> Literal["last", "first"]:
    """Returns the memory layout of a dense map; planes of one pixel lie as channels do."""
    return "last" if memory_format(x) == torch.channels_last or _shape(x)[2] == 1 else "first"


def _accumulator(x: Tensor) -> tl.dtype:
    return tl.float64 if x.dtype == torch.float64 else tl.float32


def _planned(kind: Literal["map", "sums"], reads: int, x: Tensor, plan: Plan | None) -> tuple[Plan, int]:
    """The plan given or chosen, and the programs it takes for the pixels of an image."""
    plan = plan or plan_sweep(kind, reads, _shape(x), x.element_size(), _layout(x))
    return plan, triton.cdiv(_shape(x)[2], plan.rows)


def _sums(count: int, x: Tensor, splits: int) -> tuple[Tensor, ...]:
    """Room for ``count`` sums of each program, (N, splits, C) each: apart, since operators may not return views."""
    shape = (x.shape[0], splits, x.shape[1])
    return tuple(torch.empty(shape, dtype=accumulator_dtype(x.dtype), device=x.device) for _ in range(count))


def _added(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """(N, splits, C) to (N, C)."""
    return tuple(part[:, 0] if part.shape[1] == 1 else part.sum(1) for part in parts)


def _launch(
    kernel: Any, x: Tensor, tensors: tuple[Tensor | None, ...], plan: Plan, splits: int, **constants: bool | str
) -> None:
    """Starts the programs that ``plan`` asks for, on the device of ``x``."""
    n, c, area = _shape(x)
    tile = plan.tile
    sizes: tuple[int, ...]
    if tile.layout == "flat":
        programs = triton.cdiv(x.numel(), tile.pixels)
        sizes = (area, x.numel(), triton.cdiv(2**31, area) if tile.channels > 1 else 0)
    else:
        programs = n * triton.cdiv(c, tile.channels) * splits
        by_channel, by_pixel = (tile.vector, 1) if tile.layout == "last" else (1, tile.vector)
        sizes = (c // by_channel, area // by_pixel, plan.rows, splits)
    with torch.cuda.device_of(x):
        kernel[(programs,)](
            *tensors, sizes, acc=_accumulator(x), tile=tile, num_warps=plan.warps, enable_fp_fusion=True, **constants
        )
