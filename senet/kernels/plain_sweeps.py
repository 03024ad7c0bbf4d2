"""The sweeps in plain PyTorch: what a gated block computes on its wide map, to be read beside the faster forms.

A *sweep* goes over the wide map (N, C, H, W) once, takes small coefficients (N, C), and returns a map or the sums
over H*W of one. Every implementation has these eight, by these names. For all of them:

* maps (``x``, ``g``, ``out``, ``shortcut``) are of one dtype and one layout, contiguous or channels-last, and so is
  the map returned;
* coefficients and sums are (N, C) in :func:`~senet.kernels.reference.accumulator_dtype`, in which all arithmetic is
  done; a map is rounded once, when it is stored;
* ``center`` is what ``x`` is measured from, the mean as a rule, so that nothing cancels where the mean is large;
* ``act`` names h = act(u); its derivative at a kink and at NaN is PyTorch's.

Written for every device. They are differentiable: only what a sweep has made itself is written over, and nothing that
autograd keeps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from senet.kernels.reference import accumulator_dtype

__all__ = [
    "Act",
    "affine",
    "affine_backward",
    "gate_act",
    "gate_act_backward",
    "moments",
    "spread",
    "spread_act",
    "squeeze_act",
]

Act = Literal["none", "relu", "relu6", "silu", "hard_swish", "gelu"]


def _silu_backward(g: Tensor, u: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return torch.ops.aten.silu_backward(g, u)
    s = torch.sigmoid(u)  # PyTorch's own operator for this has no derivative
    return g * s * (1 + u * (1 - s))


_ACT: dict[Act, Callable[[Tensor], Tensor]] = {
    "none": lambda u: u,
    "relu": torch.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hard_swish": F.hardswish,
    "gelu": F.gelu,
}
_ACT_BACKWARD: dict[Act, Callable[[Tensor, Tensor], Tensor]] = {
    "none": lambda g, _: g,
    "relu": lambda g, u: torch.ops.aten.threshold_backward(g, u, 0),
    "relu6": lambda g, u: torch.ops.aten.hardtanh_backward(g, u, 0, 6),
    "silu": _silu_backward,
    "hard_swish": torch.ops.aten.hardswish_backward,
    "gelu": torch.ops.aten.gelu_backward,
}


def moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, and sum of squared deviations from it, of every plane: what normalisation and squeeze both need.

    Returns:
        ``mean``; ``rest``, what the mean's rounding left; and ``m2`` = sum (x - mean - rest)^2. Each (N, C).
    """
    mean = _mean(x)
    apart = x - _wide(mean)
    rest = _mean(apart)
    return mean, rest, _sum(apart.square_()) - x.shape[2] * x.shape[3] * rest.square()


def affine(
    x: Tensor, center: Tensor | None, scale: Tensor, shift: Tensor | None, shortcut: Tensor | None, relu: bool
) -> Tensor:
    """Normalisation, gate, shortcut and ReLU: act(scale * (x - center) + shift + shortcut); None stands for 0."""
    out = _affine(x, center, scale, shift)
    if shortcut is not None:
        out.add_(shortcut)
    return (out.relu_() if relu else out).to(x.dtype)


def affine_backward(g: Tensor, out: Tensor | None, x: Tensor, center: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient behind :func:`affine`'s ReLU, and its sums over each plane.

    Args:
        g: gradient of ``out``.
        out: what :func:`affine` returned, or None where it had no ReLU.
        x: the input of :func:`affine`.
        center: its center; None stands for 0.

    Returns:
        ``g1`` = g where out > 0 (``g`` itself without ReLU), ``a`` = sum g1, ``b`` = sum g1 * (x - center).
    """
    g1 = g if out is None else torch.ops.aten.threshold_backward(g, out, 0)
    return g1, _sum(g1), _sum(g1 * _centred(x, center))


def spread(g: Tensor, x: Tensor, center: Tensor | None, p: Tensor, q: Tensor | None, r: Tensor) -> Tensor:
    """The gradient of normalisation and gate: p * g + q * (x - center) + r; None stands for 0."""
    return _spread(g * _wide(p), x, center, q, r).to(x.dtype)


def squeeze_act(
    x: Tensor, center: Tensor | None, scale: Tensor | None, shift: Tensor | None, act: Act
) -> tuple[Tensor, Tensor, Tensor]:
    """Squeeze of h = act(u), u = scale * (x - center) + shift, and what its derivative needs of the map.

    Args:
        x: the map.
        center: None stands for 0.
        scale: None: u is ``x`` as it is, whatever ``center`` and ``shift`` are.
        shift: None stands for 0.
        act: the activation's name.

    Returns:
        mean h, mean act'(u), mean act'(u) * (x - center).
    """
    u = _affine(x, center, scale, shift)
    slope = _slope(u, act)
    return _mean(_ACT[act](u)), _mean(slope), _mean(slope * _centred(x, center))


def gate_act(
    x: Tensor, center: Tensor | None, scale: Tensor | None, shift: Tensor | None, s: Tensor, act: Act
) -> Tensor:
    """The gated activation: s * act(u), u as in :func:`squeeze_act`."""
    return (_ACT[act](_affine(x, center, scale, shift)) * _wide(s)).to(x.dtype)


def gate_act_backward(
    g: Tensor, x: Tensor, center: Tensor | None, scale: Tensor | None, shift: Tensor | None, act: Act
) -> tuple[Tensor, Tensor, Tensor]:
    """Reduces the gradient ``g`` of :func:`gate_act` to sums over each plane.

    Returns:
        sum g * act(u), sum g * act'(u), sum g * act'(u) * (x - center).
    """
    u = _affine(x, center, scale, shift)
    gu = g * _slope(u, act)
    return _sum(g * _ACT[act](u)), _sum(gu), _sum(gu * _centred(x, center))


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
    act: Act,
) -> Tensor:
    """The gradient of :func:`gate_act`: act'(u) * (p * g + e) + q * (x - center) + r; None stands for 0."""
    gu = _ACT_BACKWARD[act](torch.addcmul(_wide(e), g.to(e.dtype), _wide(p)), _affine(x, center, scale, shift))
    return _spread(gu, x, center, q, r).to(x.dtype)


def _wide(coefficient: Tensor) -> Tensor:
    """(N, C) as (N, C, 1, 1)."""
    return coefficient[:, :, None, None]


def _sum(x: Tensor) -> Tensor:
    return x.sum((2, 3), dtype=accumulator_dtype(x.dtype))


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3), dtype=accumulator_dtype(x.dtype))


def _centred(x: Tensor, center: Tensor | None) -> Tensor:
    """The map measured from its center, in the accumulator dtype."""
    return x.to(accumulator_dtype(x.dtype)) if center is None else x - _wide(center)


def _affine(x: Tensor, center: Tensor | None, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """The normalised map scale * (x - center) + shift, in the accumulator dtype."""
    if scale is None:
        return _centred(x, None)
    if shift is None:
        return _centred(x, center) * _wide(scale)
    return torch.addcmul(_wide(shift), _centred(x, center), _wide(scale))


def _slope(u: Tensor, act: Act) -> Tensor:
    """act'(u)."""
    return _ACT_BACKWARD[act](torch.ones((), dtype=u.dtype, device=u.device).expand_as(u), u)


def _spread(gu: Tensor, x: Tensor, center: Tensor | None, q: Tensor | None, r: Tensor | None) -> Tensor:
    """Computes the gradient of ``x`` through norm and statistics, gu + q * (x - center) + r; overwrites ``gu``."""
    if q is not None:
        gu.addcmul_(_centred(x, center), _wide(q))
    return gu if r is None else gu.add_(_wide(r))
