from __future__ import annotations

import pytest
import torch
from torch import nn

from senet.blocks.free import close_gated, close_project, close_tail, open_site, pooled
from senet.kernels import dispatch, ops
from senet.kernels.ops.gated import gated_backward
from senet.kernels.ops.opened import spread
from senet.kernels.ops.project import project_backward
from senet.kernels.ops.tail import tail_backward

SHAPE = (2, 6, 5, 3)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def maps(count: int, shape=SHAPE, layout=torch.Tensor.contiguous) -> list[torch.Tensor]:
    return [layout(torch.randn(shape)).requires_grad_() for _ in range(count)]


def numbers(count: int) -> list[torch.Tensor]:
    return [torch.randn(SHAPE[:2]).requires_grad_() for _ in range(count)]


def arguments(shape, layout) -> dict:
    axes = len(shape) - 2
    geometry = ([1] * axes, [0] * axes, [1] * axes, 1)
    x, g, shortcut, out = maps(4, shape, layout)
    center, scale, shift, s, q, r = numbers(6)
    weight = torch.randn(4, SHAPE[1], *(1,) * axes, requires_grad=True)
    _, _, _, handle, terms = ops.moments(x.detach(), "silu")
    opened = (handle, terms, x, center, scale, shift)
    closed = (x.detach(), center.detach(), scale.detach(), shift.detach())
    plain = g.detach()
    six = torch.randn(6, *SHAPE[:2])
    y = torch.randn(2, 4, *shape[2:])
    return {
        ops.moments: (x, "none"),
        ops.stand_in: (x, center.detach(), "silu"),
        ops.tail: (*opened, shortcut, True),
        ops.squeeze: (*opened[1:], "silu"),
        ops.gated: (*opened, s, "silu"),
        ops.project: (*opened, s, "silu", weight, None, *geometry),
        spread: (plain, six, x.detach(), center.detach(), q.detach(), r.detach(), "silu"),
        tail_backward: (plain, out.detach(), *closed[:2]),
        gated_backward: (plain, *closed, "silu"),
        project_backward: (y, *closed, s.detach(), "silu", weight.detach(), False, *geometry),
    }


@pytest.mark.parametrize("layout", [torch.Tensor.contiguous, channels_last], ids=["first", "last"])
@pytest.mark.parametrize("shape", [SHAPE, (2, 6, 11), (2, 6, 3, 2, 5)], ids=str)
@pytest.mark.parametrize("number", range(10))
def test_operators_keep_the_rules_of_operators(number, shape, layout):
    """Schema, fake tensors, and that tracing finds the same: torch's own checks."""
    operator, given = list(arguments(shape, layout).items())[number]
    # Gradients of `handle` and `terms` are meant for `moments` alone, which `test_aot_dispatch` cannot know.
    torch.library.opcheck(operator, given, test_utils=("test_schema", "test_autograd_registration", "test_faketensor"))


OF_RANK = {
    3: (nn.BatchNorm1d, nn.Conv1d),
    4: (nn.BatchNorm2d, nn.Conv2d),
    5: (nn.BatchNorm3d, nn.Conv3d),
}


@pytest.mark.parametrize("shape", [SHAPE, (2, 6, 11), (2, 6, 3, 2, 5)], ids=str)
@pytest.mark.parametrize("kind", ["tail", "gated", "project"])
def test_sites_run_on_interpreted_triton_kernels(kind, shape, interpreted, as_on_a_gpu, monkeypatch):
    """What the operators return is theirs alone: views, which the sweeps' own tests let pass, are refused here."""
    batch_norm, convolution = OF_RANK[len(shape)]
    norm, conv = batch_norm(6), convolution(6, 4, 1)

    def run() -> list[torch.Tensor]:
        torch.manual_seed(0)
        x, shortcut = maps(2, shape)
        site = open_site(x, norm, "none" if kind == "tail" else "silu")
        s = pooled(site, x.ndim).sigmoid()
        if kind == "tail":
            out = close_tail(site, s, shortcut, relu=True)
        else:
            out = close_gated(site, s) if kind == "gated" else close_project(site, s, conv)
        return [out, *torch.autograd.grad(out.square().sum(), [x, norm.weight, norm.bias])]

    wanted = run()
    choice = dispatch.Choice("triton", interpreted)
    monkeypatch.setattr(dispatch, "_choose", lambda *_: choice)
    for a, b in zip(run(), wanted, strict=True):
        torch.testing.assert_close(a, b)
