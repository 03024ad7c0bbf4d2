"""The convolution of a gated activation, which is computed again in backward instead of being kept."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from senet.kernels import plain_sweeps
from senet.kernels.dispatch import choose
from senet.kernels.layout import dense, empty_as, packed, shaped
from senet.kernels.ops.gated import through_gate
from senet.kernels.ops.operator import differentiable, operator

__all__ = ["project"]


@operator
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
    inputs = shaped(choose(x).sweeps.gate_act(dense(x), *packed(center, scale, shift, s), act), x.shape)
    y = _conv(inputs, weight, bias, stride, padding, dilation, groups)
    return shaped(dense(y, x), y.shape)


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
    return empty_as(x, _conv(x, weight, bias, *geometry).shape)


@operator
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
    geometry = (stride, padding, dilation, groups)
    return _behind(choose(x).sweeps, g, x, center, scale, shift, s, act, weight, with_bias, *geometry)


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


def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """The convolution of a map of any rank."""
    return torch.convolution(x, weight, bias, stride, padding, dilation, False, [0] * len(stride), groups)


def _behind(
    sweeps: ModuleType,
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
    inputs = shaped(sweeps.gate_act(dense(x), *packed(center, scale, shift, s), act), x.shape)
    sizes, nothing = [weight.shape[0]] if with_bias else None, [0] * len(stride)
    d_inputs, d_weight, d_bias = torch.ops.aten.convolution_backward(
        g, inputs, weight, sizes, stride, padding, dilation, False, nothing, groups, [True, True, with_bias]
    )
    return shaped(dense(d_inputs, x), x.shape), d_weight, d_bias if with_bias else x.new_empty(0)


def _project_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, _, x, center, scale, shift, s, ctx.act, weight, bias, *ctx.geometry = inputs
    ctx.with_bias = bias is not None
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, center, scale, shift, s, weight)


def _project_backward(ctx: Any, g: Tensor | None) -> tuple[Any, ...]:
    if g is None:
        return (None,) * 14
    x, center, scale, shift, s, weight = ctx.saved_tensors
    given = (g, x, center, scale, shift, s, ctx.act, weight, ctx.with_bias, *ctx.geometry)
    if torch.is_grad_enabled():
        d_inputs, d_weight, d_bias = _behind(plain_sweeps, *given)
    else:
        d_inputs, d_weight, d_bias = project_backward(*given)
    through = through_gate(d_inputs, x, center, scale, shift, s, act=ctx.act)
    return (*through, None, d_weight, d_bias if ctx.with_bias else None, None, None, None, None)


differentiable(project, _project_setup, _project_backward)
