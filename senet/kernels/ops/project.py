"""The convolution of a gated activation, which is computed again in backward instead of being kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from senet.kernels.dispatch import choose
from senet.kernels.layout import dense, empty_as, packed
from senet.kernels.ops.gated import through_gate

__all__ = ["project"]


@torch.library.custom_op("senet::project", mutates_args=(), tags=(torch.Tag.flexible_layout,))
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
    inputs = choose(x).sweeps.gate_act(x, *packed(center, scale, shift, s), act)
    y = torch.conv2d(inputs, weight, bias, stride, padding, dilation, groups)
    return dense(y, x)


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


@torch.library.custom_op("senet::project_backward", mutates_args=(), tags=(torch.Tag.flexible_layout,))
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
    inputs = choose(x).sweeps.gate_act(x, *packed(center, scale, shift, s), act)
    bias_sizes = [weight.shape[0]] if with_bias else None
    d_inputs, d_weight, d_bias = torch.ops.aten.convolution_backward(
        g, inputs, weight, bias_sizes, stride, padding, dilation, False, [0, 0], groups, [True, True, with_bias]
    )
    return dense(d_inputs, x), d_weight, d_bias if with_bias else x.new_empty(0)


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
    through = through_gate(d_inputs, x, center, scale, shift, s, act=ctx.act)
    return (*through, None, d_weight, d_bias if ctx.with_bias else None, None, None, None, None)


project.register_autograd(_project_backward, setup_context=_project_setup)
