"""The operators of free SE, registered with fake and autograd rules, so that compile, export and autocast see through.

``moments`` reads the map that a norm would read, once; the gate is computed from what it gives by ordinary small
tensors (after an activation, from what ``squeeze`` gives); ``tail``, ``gated`` or ``project`` closes the site in one
more sweep. These are all the operators a site needs; the others are their backward.

The gradient of the map travels in factored form. A gradient of ``x`` computed by ``tail``, another by the gate and a
third by the norm would be three wide tensors to write, read and add. So ``moments`` also gives a ``handle``, which
has the shape of ``x`` and no memory, and ``terms``, (4, N, C) and no memory. What closes the site returns as the
gradient of ``handle`` a wide tensor g that it has anyway, and as the gradient of ``terms`` the coefficients p, e,
scale and shift per image and channel; backward of ``moments`` then writes, in one sweep,

    dx = act'(scale * (x - mean) + shift) * (p * g + e) + dmean / HW + 2 * dm2 * (x - mean).

``handle`` and ``terms`` belong to one site and go nowhere else: their gradients are not gradients of anything else.

Shapes: maps (N, C, H, W); coefficients (N, C) in :func:`~senet.kernels.reference.accumulator_dtype`. ``x``,
``shortcut`` and the outputs share their dtype; outputs have the memory format of ``x``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from senet.kernels.dispatch import choose
from senet.kernels.layout import dense, empty_as
from senet.kernels.reference import accumulator_dtype

__all__ = ["gated", "moments", "project", "squeeze", "stand_in", "tail"]


@torch.library.custom_op("senet::moments", mutates_args=())
def moments(x: Tensor, act: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and centred second moment over each image's channel, and the stand-ins that carry the map's gradient.

    Args:
        x: map (N, C, H, W).
        act: the activation between this map's norm and the gate; ``"none"`` in a residual tail.

    Returns:
        ``mean`` (N, C); ``m2`` (N, C), the sum of squares of ``x - mean``; ``handle``; ``terms``.
    """
    x = dense(x)
    mean, m2 = choose(x).sweeps.moments(x)
    return mean, m2, *_stand_ins(x)


@torch.library.custom_op("senet::stand_in", mutates_args=())
def stand_in(x: Tensor, center: Tensor, act: str) -> tuple[Tensor, Tensor]:
    """The stand-ins alone, for a map whose moments nobody asks for: that of a frozen norm. Reads nothing."""
    return _stand_ins(x)


@torch.library.custom_op("senet::tail", mutates_args=())
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
    x = dense(x)
    return choose(x).sweeps.affine(x, center, scale, shift, None if shortcut is None else dense(shortcut, x), relu)


@torch.library.custom_op("senet::squeeze", mutates_args=())
def squeeze(
    terms: Tensor, x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, act: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The mean over each image's channel of ``act(u)``, ``u = scale * (x - center) + shift``, without storing u.

    Returns:
        The mean, and the means of ``act'(u)`` and ``act'(u) * (x - center)``, which backward needs: (N, C) each.
    """
    x = dense(x)
    return choose(x).sweeps.squeeze_act(x, center, scale, shift, act)


@torch.library.custom_op("senet::gated", mutates_args=())
def gated(
    handle: Tensor, terms: Tensor, x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, s: Tensor, act: str
) -> Tensor:
    """``s * act(scale * (x - center) + shift)``; keeps ``x`` alone."""
    x = dense(x)
    return choose(x).sweeps.gate_act(x, center, scale, shift, s, act)


@torch.library.custom_op("senet::project", mutates_args=())
def project(
    handle: Tensor,
    terms: Tensor,
    x: Tensor,
    center: Tensor,
    scale: Tensor,
    shift: Tensor,
    s: Tensor,
    act: str,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """The convolution of :func:`gated`; keeps ``x`` and the weight, and computes the convolution's input again."""
    x = dense(x)
    inputs = choose(x).sweeps.gate_act(x, center, scale, shift, s, act)
    y = torch.conv2d(inputs, weight, bias, stride, padding, dilation, groups)
    return dense(y, x)


@torch.library.custom_op("senet::spread", mutates_args=())
def spread(
    g: Tensor | None, terms: Tensor | None, x: Tensor, mean: Tensor, q: Tensor | None, r: Tensor | None, act: str
) -> Tensor:
    """The gradient of the map from its factored form; backward of :func:`moments`."""
    x = dense(x)
    sweeps = choose(x).sweeps
    if g is None or terms is None:  # the gate was used, the map was not
        zero = torch.zeros_like(mean)
        return sweeps.spread(x, x, mean, zero, zero if q is None else q, zero if r is None else r)
    p, e, scale, shift = terms.unbind()
    if act == "none":
        return sweeps.spread(dense(g, x), x, mean, p, q, e if r is None else e + r)
    return sweeps.spread_act(dense(g, x), x, mean, scale, shift, p, e, q, r, act)


@torch.library.custom_op("senet::tail_backward", mutates_args=())
def tail_backward(
    g: Tensor, out: Tensor | None, x: Tensor, center: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """``g`` where the ReLU let through (nothing new without one), its sum, and its sum against ``x - center``."""
    x = dense(x)
    kept, a, b = choose(x).sweeps.affine_backward(dense(g, x), out, x, center)
    return x.new_empty(0) if out is None else kept, a, b


@torch.library.custom_op("senet::gated_backward", mutates_args=())
def gated_backward(
    g: Tensor, x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, act: str
) -> tuple[Tensor, Tensor, Tensor]:
    """The sums over the map of ``g * h``, ``g * act'(u)`` and ``g * act'(u) * (x - center)``."""
    x = dense(x)
    return choose(x).sweeps.gate_act_backward(dense(g, x), x, center, scale, shift, act)


@torch.library.custom_op("senet::project_backward", mutates_args=())
def project_backward(
    g: Tensor,
    x: Tensor,
    center: Tensor,
    scale: Tensor,
    shift: Tensor,
    s: Tensor,
    act: str,
    weight: Tensor,
    with_bias: bool,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of the convolution's input, weight and bias, the input being computed again."""
    x = dense(x)
    inputs = choose(x).sweeps.gate_act(x, center, scale, shift, s, act)
    bias_sizes = [weight.shape[0]] if with_bias else None
    d_inputs, d_weight, d_bias = torch.ops.aten.convolution_backward(
        g, inputs, weight, bias_sizes, stride, padding, dilation, False, [0, 0], groups, [True, True, with_bias]
    )
    return dense(d_inputs, x), d_weight, d_bias if with_bias else x.new_empty(0)


# ---- What the operators give, without computing it ----


def _coefficients(x: Tensor) -> Tensor:
    return x.new_empty(x.shape[:2], dtype=accumulator_dtype(x.dtype))


def _stand_ins(x: Tensor) -> tuple[Tensor, Tensor]:
    acc = accumulator_dtype(x.dtype)
    return x.new_empty(()).expand(x.shape), x.new_empty((), dtype=acc).expand(4, *x.shape[:2])


@moments.register_fake
def _(x: Tensor, act: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _coefficients(x), _coefficients(x), *_stand_ins(x)


@stand_in.register_fake
def _(x: Tensor, center: Tensor, act: str) -> tuple[Tensor, Tensor]:
    return _stand_ins(x)


@tail.register_fake
def _(handle: Tensor, terms: Tensor, x: Tensor, *_rest: Any) -> Tensor:
    return empty_as(x)


@squeeze.register_fake
def _(terms: Tensor, x: Tensor, *_rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _coefficients(x), _coefficients(x), _coefficients(x)


@gated.register_fake
def _(handle: Tensor, terms: Tensor, x: Tensor, *_rest: Any) -> Tensor:
    return empty_as(x)


@project.register_fake
def _(
    handle: Tensor,
    terms: Tensor,
    x: Tensor,
    center: Tensor,
    scale: Tensor,
    shift: Tensor,
    s: Tensor,
    act: str,
    weight: Tensor,
    bias: Tensor | None,
    *geometry: Any,
) -> Tensor:
    return empty_as(x, torch.conv2d(x, weight, bias, *geometry).shape)


@spread.register_fake
def _(g: Tensor | None, terms: Tensor | None, x: Tensor, *_rest: Any) -> Tensor:
    return empty_as(x)


@tail_backward.register_fake
def _(g: Tensor, out: Tensor | None, x: Tensor, center: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(0) if out is None else empty_as(x), _coefficients(x), _coefficients(x)


@gated_backward.register_fake
def _(g: Tensor, x: Tensor, *_rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _coefficients(x), _coefficients(x), _coefficients(x)


@project_backward.register_fake
def _(
    g: Tensor,
    x: Tensor,
    center: Tensor,
    scale: Tensor,
    shift: Tensor,
    s: Tensor,
    act: str,
    weight: Tensor,
    with_bias: bool,
    *_rest: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    d_weight = torch.empty_like(weight)
    return empty_as(x), d_weight, weight.new_empty(weight.shape[0]) if with_bias else x.new_empty(0)


# ---- Backward ----


def _moments_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, ctx.act = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, output[0])


def _moments_backward(
    ctx: Any, d_mean: Tensor | None, d_m2: Tensor | None, g: Tensor | None, terms: Tensor | None
) -> tuple[Any, ...]:
    x, mean = ctx.saved_tensors
    q = None if d_m2 is None else 2 * d_m2
    r = None if d_mean is None else d_mean / (x.shape[2] * x.shape[3])
    return spread(g, terms, x, mean, q, r, ctx.act), None


def _stand_in_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, center, ctx.act = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, center)


def _stand_in_backward(ctx: Any, g: Tensor | None, terms: Tensor | None) -> tuple[Any, ...]:
    x, center = ctx.saved_tensors
    return spread(g, terms, x, center, None, None, ctx.act), None, None


def _tail_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, x, center, scale, _, _, relu = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, center, scale, output if relu else None)


def _tail_backward(ctx: Any, g: Tensor | None) -> tuple[Any, ...]:
    if g is None:
        return (None,) * 8
    x, center, scale, out = ctx.saved_tensors
    kept, a, b = tail_backward(g, out, x, center)
    wide = g if out is None else kept
    zero = torch.zeros_like(scale)
    terms = torch.stack((scale, zero, zero, zero))
    d_center = None if center is None else -scale * a
    _, _, _, _, _, needs_shift, needs_shortcut, _ = ctx.needs_input_grad
    return wide, terms, None, d_center, b, a if needs_shift else None, wide if needs_shortcut else None, None


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
    return (*_through_gate(g, *ctx.saved_tensors, act=ctx.act), None)


def _project_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, x, center, scale, shift, s, ctx.act, weight, bias, *ctx.geometry = inputs
    ctx.with_bias = bias is not None
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, center, scale, shift, s, weight)


def _project_backward(ctx: Any, g: Tensor | None) -> tuple[Any, ...]:
    if g is None:
        return (None,) * 14
    x, center, scale, shift, s, weight = ctx.saved_tensors
    d_inputs, d_weight, d_bias = project_backward(
        g, x, center, scale, shift, s, ctx.act, weight, ctx.with_bias, *ctx.geometry
    )
    through = _through_gate(d_inputs, x, center, scale, shift, s, act=ctx.act)
    return (*through, None, d_weight, d_bias if ctx.with_bias else None, None, None, None, None)


def _through_gate(
    g: Tensor, x: Tensor, center: Tensor, scale: Tensor, shift: Tensor, s: Tensor, *, act: str
) -> tuple[Tensor | None, ...]:
    """The gradients of handle, terms, x, center, scale, shift and s from the gradient of ``s * act(u)``."""
    gh, a, b = gated_backward(g, x, center, scale, shift, act)
    terms = torch.stack((scale * s, torch.zeros_like(s), scale, shift))
    return g, terms, None, -scale * s * a, s * b, s * a, gh


stand_in.register_autograd(_stand_in_backward, setup_context=_stand_in_setup)
moments.register_autograd(_moments_backward, setup_context=_moments_setup)
tail.register_autograd(_tail_backward, setup_context=_tail_setup)
squeeze.register_autograd(_squeeze_backward, setup_context=_squeeze_setup)
gated.register_autograd(_gated_backward, setup_context=_gated_setup)
project.register_autograd(_project_backward, setup_context=_project_setup)
