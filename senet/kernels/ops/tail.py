"""The end of a residual unit: norm, gate, shortcut and ReLU in one sweep."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from senet.kernels import plain_sweeps
from senet.kernels.dispatch import choose
from senet.kernels.layout import coefficients, dense, empty_as, packed, shaped
from senet.kernels.ops.operator import differentiable, operator

__all__ = ["tail"]


@operator
def tail(
    handle: Tensor,
    terms: Tensor,
    x: Tensor,
    center: Tensor | None,
    scale: Tensor,
    shift: Tensor | None,
    shortcut: Tensor | None,
    relu: bool,
) -> Tensor:
    """``act(scale * (x - center) + shift + shortcut)``; keeps ``x`` and, where there is a ReLU, its own output."""
    shape, x = x.shape, dense(x)
    shortcut = None if shortcut is None else dense(shortcut, x)
    return shaped(choose(x).sweeps.affine(x, *packed(center, scale, shift), shortcut, relu), shape)


@tail.register_fake
def _(handle: Tensor, terms: Tensor, x: Tensor, *_rest: Any) -> Tensor:
    return empty_as(x)


@operator
def tail_backward(g: Tensor, out: Tensor | None, x: Tensor, center: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """``g`` where the ReLU let through (nothing new without one), its sum, and its sum against ``x - center``."""
    kept, a, b = _behind(choose(x).sweeps, g, out, x, center)
    return x.new_empty(0) if out is None else kept, a, b


@tail_backward.register_fake
def _(g: Tensor, out: Tensor | None, x: Tensor, center: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(0) if out is None else empty_as(x), coefficients(x), coefficients(x)


def _behind(
    sweeps: ModuleType, g: Tensor, out: Tensor | None, x: Tensor, center: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    shape, x = x.shape, dense(x)
    out = None if out is None else dense(out, x)  # compiled, a map may be kept in another format than it was made in
    kept, a, b = sweeps.affine_backward(dense(g, x), out, x, *packed(center))
    return shaped(kept, shape), a, b


def _tail_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, x, center, scale, _, _, relu = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, center, scale, output if relu else None)


def _tail_backward(ctx: Any, g: Tensor | None) -> tuple[Any, ...]:
    if g is None:
        return (None,) * 8
    x, center, scale, out = ctx.saved_tensors
    if torch.is_grad_enabled():  # a ReLU's mask has no derivative, so none is sought through its output
        kept, a, b = _behind(plain_sweeps, g, None if out is None else out.detach(), x, center)
    else:
        kept, a, b = tail_backward(g, out, x, center)
    wide = g if out is None else kept
    zero = torch.zeros_like(scale)
    terms = torch.stack((scale, *(zero,) * 5))
    d_center = None if center is None else -scale * a
    _, _, _, _, _, needs_shift, needs_shortcut, _ = ctx.needs_input_grad
    return wide, terms, None, d_center, b, a if needs_shift else None, wide if needs_shortcut else None, None


differentiable(tail, _tail_setup, _tail_backward)
