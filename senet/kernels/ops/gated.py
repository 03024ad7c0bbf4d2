"""Norm, activation and gate: the squeeze behind an activation, and the gated activation itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from senet.kernels.dispatch import choose
from senet.kernels.layout import coefficients, dense, empty_as, packed

__all__ = ["gated", "squeeze", "through_gate"]


@torch.library.custom_op("senet::squeeze", mutates_args=(), tags=(torch.Tag.flexible_layout,))
def squeeze(
    terms: Tensor, x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, act: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The mean over each image's channel of ``act(u)``, ``u = scale * (x - center) + shift``, without storing u.

    Returns:
        The mean, and the means of ``act'(u)`` and ``act'(u) * (x - center)``, which backward needs: (N, C) each.
    """
    x = dense(x)
    return choose(x).sweeps.squeeze_act(x, *packed(center, scale, shift), act)


@squeeze.register_fake
def _(terms: Tensor, x: Tensor, *_rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return coefficients(x), coefficients(x), coefficients(x)


@torch.library.custom_op("senet::gated", mutates_args=(), tags=(torch.Tag.flexible_layout,))
def gated(
    handle: Tensor, terms: Tensor, x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, s: Tensor, act: str
) -> Tensor:
    """``s * act(scale * (x - center) + shift)``; keeps ``x`` alone."""
    x = dense(x)
    return choose(x).sweeps.gate_act(x, *packed(center, scale, shift, s), act)


@gated.register_fake
def _(handle: Tensor, terms: Tensor, x: Tensor, *_rest: Any) -> Tensor:
    return empty_as(x)


@torch.library.custom_op("senet::gated_backward", mutates_args=(), tags=(torch.Tag.flexible_layout,))
def gated_backward(
    g: Tensor, x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, act: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The sums over the map of ``g * h``, ``g * act'(u)`` and ``g * act'(u) * (x - center)``."""
    x = dense(x)
    return choose(x).sweeps.gate_act_backward(dense(g, x), x, *packed(center, scale, shift), act)


@gated_backward.register_fake
def _(g: Tensor, x: Tensor, *_rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return coefficients(x), coefficients(x), coefficients(x)


def _squeeze_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, x, _, scale, _, _ = inputs
    ctx.pixels = x.shape[2] * x.shape[3]
    ctx.mark_non_differentiable(output[1], output[2])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(scale, output[1], output[2])


def _squeeze_backward(ctx: Any, dz: Tensor | None, *_rest: None) -> tuple[Any, ...]:
    if dz is None:
        return (None,) * 6
    scale, d0, d1 = ctx.saved_tensors
    zero = torch.zeros_like(scale)
    terms = torch.stack((zero, scale * dz / ctx.pixels, zero, zero))
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
    gh, a, b = gated_backward(g, x, center, scale, shift, act)
    terms = torch.stack((scale * s, torch.zeros_like(s), scale, shift))
    return g, terms, None, -scale * s * a, s * b, s * a, gh


squeeze.register_autograd(_squeeze_backward, setup_context=_squeeze_setup)
gated.register_autograd(_gated_backward, setup_context=_gated_setup)
