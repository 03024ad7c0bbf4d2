"""Norm, activation and gate: the squeeze behind an activation, and the gated activation itself."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from senet.kernels import plain_sweeps
from senet.kernels.dispatch import choose
from senet.kernels.layout import coefficients, dense, empty_as, packed, pixels, shaped
from senet.kernels.ops.operator import differentiable, operator

__all__ = ["gated", "squeeze", "through_gate"]


@operator
def squeeze(
    terms: Tensor, x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, act: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The mean over each image's channel of ``act(u)``, ``u = scale * (x - center) + shift``, without storing u.

    Returns:
        The mean, and the means of ``act'(u)`` and ``act'(u) * (x - center)``, which backward needs: (N, C) each.
    """
    return choose(x).sweeps.squeeze_act(dense(x), *packed(center, scale, shift), act)


@squeeze.register_fake
def _(terms: Tensor, x: Tensor, *_rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return coefficients(x), coefficients(x), coefficients(x)


@operator
def gated(
    handle: Tensor, terms: Tensor, x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, s: Tensor, act: str
) -> Tensor:
    """``s * act(scale * (x - center) + shift)``; keeps ``x`` alone."""
    return shaped(choose(x).sweeps.gate_act(dense(x), *packed(center, scale, shift, s), act), x.shape)


@gated.register_fake
def _(handle: Tensor, terms: Tensor, x: Tensor, *_rest: Any) -> Tensor:
    return empty_as(x)


@operator
def gated_backward(
    g: Tensor, x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, act: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The sums over the map of ``g * h``, ``g * act'(u)`` and ``g * act'(u) * (x - center)``."""
    return _behind(choose(x).sweeps, g, x, center, scale, shift, act)


@gated_backward.register_fake
def _(g: Tensor, x: Tensor, *_rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return coefficients(x), coefficients(x), coefficients(x)


def _behind(
    sweeps: ModuleType, g: Tensor, x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, act: str
) -> tuple[Tensor, Tensor, Tensor]:
    x = dense(x)
    return sweeps.gate_act_backward(dense(g, x), x, *packed(center, scale, shift), act)


def _squeeze_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, x, center, scale, shift, ctx.act = inputs
    ctx.mark_non_differentiable(output[1], output[2])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, center, scale, shift, output[1], output[2])


def _squeeze_backward(ctx: Any, dz: Tensor | None, *_rest: None) -> tuple[Any, ...]:
    if dz is None:
        return (None,) * 6
    x, center, scale, shift, d0, d1 = ctx.saved_tensors
    if torch.is_grad_enabled():  # as functions of the map, which the saved ones are not
        center, scale, shift = packed(center, scale, shift)
        _, d0, d1 = plain_sweeps.squeeze_act(dense(x), center, scale, shift, ctx.act)
    zero = torch.zeros_like(scale)
    terms = torch.stack((zero, scale * dz / pixels(x), zero, zero, scale, shift))
    return terms, None, -scale * dz * d0, dz * d1, dz * d0, None


def _gated_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, x, center, scale, shift, s, ctx.act = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, center, scale, shift, s)


def _gated_backward(ctx: Any, g: Tensor | None) -> tuple[Any, ...]:
    if g is None:
        return (None,) * 8
    return (*through_gate(g, *ctx.saved_tensors, act=ctx.act), None)


def through_gate(
    g: Tensor, x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, s: Tensor, *, act: str
) -> tuple[Tensor | None, ...]:
    """The gradients of handle, terms, x, center, scale, shift and s, from the gradient of ``s * act(u)``."""
    if torch.is_grad_enabled():
        gh, a, b = _behind(plain_sweeps, g, x, center, scale, shift, act)
    else:
        gh, a, b = gated_backward(g, x, center, scale, shift, act)
    zero = torch.zeros_like(s)
    terms = torch.stack((scale * s, zero, scale, shift, zero, zero))
    return g, terms, None, -scale * s * a, s * b, s * a, gh


differentiable(squeeze, _squeeze_setup, _squeeze_backward)
differentiable(gated, _gated_setup, _gated_backward)
