"""The beginning of a site: the moments of its map, and the stand-ins that carry the map's gradient."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from senet.kernels import plain_sweeps
from senet.kernels.dispatch import choose
from senet.kernels.layout import coefficients, dense, empty_as, packed, pixels, shaped
from senet.kernels.ops.operator import differentiable, operator
from senet.kernels.reference import accumulator_dtype

__all__ = ["moments", "stand_in"]


@operator
def moments(x: Tensor, act: str) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Mean and centred second moment over each image's channel, and the stand-ins that carry the map's gradient.

    Args:
        x: map (N, C, H, W), or of rank 3 or 5.
        act: the activation between this map's norm and the gate; ``"none"`` in a residual tail.

    Returns:
        ``mean`` (N, C); ``rest`` (N, C), what its rounding left, which has no gradient of its own; ``m2`` (N, C), the
        sum of squares of ``x - mean``; ``handle``; ``terms``.
    """
    return *choose(x).sweeps.moments(dense(x)), *_stand_ins(x)


@moments.register_fake
def _(x: Tensor, act: str) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return coefficients(x), coefficients(x), coefficients(x), *_stand_ins(x)


@operator
def stand_in(x: Tensor, center: Tensor, act: str) -> tuple[Tensor, Tensor]:
    """The stand-ins alone, for a map whose moments nobody asks for: that of a frozen norm. Reads nothing."""
    return _stand_ins(x)


@stand_in.register_fake
def _(x: Tensor, center: Tensor, act: str) -> tuple[Tensor, Tensor]:
    return _stand_ins(x)


@operator
def spread(
    g: Tensor | None, terms: Tensor | None, x: Tensor, mean: Tensor, q: Tensor | None, r: Tensor | None, act: str
) -> Tensor:
    """The gradient of the map from its factored form; backward of :func:`moments`."""
    return _spread(choose(x).sweeps, g, terms, x, mean, q, r, act)


@spread.register_fake
def _(g: Tensor | None, terms: Tensor | None, x: Tensor, *_rest: Any) -> Tensor:
    return empty_as(x)


def _spread(
    sweeps: ModuleType,
    g: Tensor | None,
    terms: Tensor | None,
    x: Tensor,
    mean: Tensor,
    q: Tensor | None,
    r: Tensor | None,
    act: str,
) -> Tensor:
    shape, x = x.shape, dense(x)
    terms, mean, q, r = packed(terms, mean, q, r)
    if terms is None:  # the statistics were used, neither squeeze nor map
        zero = torch.zeros_like(mean)
        return shaped(sweeps.spread(x, x, mean, zero, zero if q is None else q, zero if r is None else r), shape)
    p, e, scale, shift, *of_squeeze = terms.unbind()
    if g is None:  # the gate was used, the map was not: p is 0, whatever it is multiplied by
        g, (scale, shift) = x, of_squeeze
    g = dense(g, x)
    if act == "none":
        dx = sweeps.spread(g, x, mean, p, q, e if r is None else e + r)
    else:
        dx = sweeps.spread_act(g, x, mean, scale, shift, p, e, q, r, act)
    return shaped(dx, shape)


def _stand_ins(x: Tensor) -> tuple[Tensor, Tensor]:
    acc = accumulator_dtype(x.dtype)
    return x.new_empty(()).expand(x.shape), x.new_empty((), dtype=acc).expand(6, *x.shape[:2])


def _moments_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, ctx.act = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, output[0])


def _moments_backward(
    ctx: Any, d_mean: Tensor | None, _rest: None, d_m2: Tensor | None, g: Tensor | None, terms: Tensor | None
) -> tuple[Any, ...]:
    x, mean = ctx.saved_tensors
    q = None if d_m2 is None else 2 * d_m2
    r = None if d_mean is None else d_mean / pixels(x)
    return _joined(g, terms, x, mean, q, r, ctx.act), None


def _stand_in_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, center, ctx.act = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, center)


def _stand_in_backward(ctx: Any, g: Tensor | None, terms: Tensor | None) -> tuple[Any, ...]:
    x, center = ctx.saved_tensors
    return _joined(g, terms, x, center, None, None, ctx.act), None, None


def _joined(
    g: Tensor | None, terms: Tensor | None, x: Tensor, mean: Tensor, q: Tensor | None, r: Tensor | None, act: str
) -> Tensor | None:
    """The gradient of the map; nothing where nothing was used."""
    if terms is None and q is None and r is None:
        return None
    if torch.is_grad_enabled():
        return _spread(plain_sweeps, g, terms, x, mean, q, r, act)
    return spread(g, terms, x, mean, q, r, act)


differentiable(moments, _moments_setup, _moments_backward)
differentiable(stand_in, _stand_in_setup, _stand_in_backward)
