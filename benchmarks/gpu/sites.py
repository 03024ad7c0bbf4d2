"""Whole sites, forward and backward: free, as PyTorch runs the definition, and without a gate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu.cases import Site, randn, sites_of
from benchmarks.gpu.clock import Call, Clock, compare
from benchmarks.gpu.setting import Case, Setting
from benchmarks.gpu.sweeps import place
from senet.blocks.free import close_project, close_tail, open_site, pooled
from senet.kernels.reference import gated_conv, residual_tail

__all__ = ["cases"]

_ACTS = {"relu": F.relu, "relu6": F.relu6, "silu": F.silu, "hard_swish": F.hardswish, "gelu": F.gelu}
_PAIRS = [
    ("free", "eager"),
    ("free", "compile"),
    ("free+compile", "compile"),
    ("free", "plain"),
    ("free+compile", "plain+compile"),
    ("free", "cudnn"),
]


def cases(setting: Setting, clock: Clock) -> Iterator[Case]:
    """A case for each site, dtype, layout and batch."""
    for dtype, layout, batch in setting.maps(setting.site_dtypes):
        for site in sites_of(setting.hosts, setting.size, setting.most):
            given = (site, batch, dtype, layout)
            yield Case({"what": "site", **place(*given)}, partial(_measure, given, setting, clock), 60)


class _Parts(nn.Module):
    """A site's norm, gate and convolution; norms and gates keep their weights in float32, as autocast would."""

    def __init__(self, site: Site, dtype: torch.dtype) -> None:
        super().__init__()
        narrow = max(8, site.channels // 16)
        self.norm = nn.BatchNorm2d(site.channels)
        self.fc1 = nn.Conv2d(site.channels, narrow, 1)
        self.fc2 = nn.Conv2d(narrow, site.channels, 1)
        self.conv = nn.Conv2d(site.channels, site.outputs, 1, bias=False).to(dtype) if site.outputs else nn.Identity()

    def gate(self, z: Tensor) -> Tensor:
        return self.fc2(self.fc1(z.float()).relu()).sigmoid()


def _forms(site: Site, parts: _Parts, cudnn: bool) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """What the site computes, in each form, from the map and the shortcut."""
    norm, conv, act = parts.norm, parts.conv, _ACTS[site.act]

    def free(x: Tensor, shortcut: Tensor) -> Tensor:
        if site.kind == "tail":
            opened = open_site(x, norm)
            return close_tail(opened, parts.gate(pooled(opened)), shortcut, relu=True)
        opened = open_site(x, norm, site.act)
        return close_project(opened, parts.gate(pooled(opened)), conv)  # type: ignore[arg-type]

    def definition(x: Tensor, shortcut: Tensor) -> Tensor:
        if site.kind == "tail":
            return residual_tail(x, norm, parts.gate, shortcut)
        return gated_conv(x, norm, act, parts.gate, conv)

    def plain(x: Tensor, shortcut: Tensor) -> Tensor:
        return residual_tail(x, norm, None, shortcut) if site.kind == "tail" else conv(act(norm(x)))

    def by_cudnn(x: Tensor, shortcut: Tensor) -> Tensor:
        def cudnn_norm(u: Tensor) -> Tensor:
            kept = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
            return torch.ops.aten.cudnn_batch_norm(u, *kept, True, 0.1, norm.eps)[0]

        if site.kind == "tail":
            return residual_tail(x, cudnn_norm, parts.gate, shortcut)
        return gated_conv(x, cudnn_norm, act, parts.gate, conv)

    return {"free": free, "eager": definition, "plain": plain} | ({"cudnn": by_cudnn} if cudnn else {})


def _measure(given: tuple[Site, int, torch.dtype, str], setting: Setting, clock: Clock) -> dict[str, Any]:
    site, _, dtype, layout = given
    parts = _Parts(site, dtype).to(setting.device, memory_format=torch.channels_last).train()
    inputs = [randn(*given, setting.device).requires_grad_() for _ in range(2)]
    # cuDNN's norm of one kernel: channels-last, and in no bfloat16 as PyTorch calls it.
    cudnn = setting.on_cuda and layout == "last" and dtype != torch.bfloat16
    forms = _forms(site, parts, cudnn)
    compiled = {"free+compile": "free", "compile": "eager", "plain+compile": "plain"}
    forms |= {name: setting.compiled(forms[form]) for name, form in compiled.items()}
    g = torch.randn_like(forms["eager"](*inputs))
    wanted = [*inputs, *parts.parameters()]

    def step(form: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(form(*inputs), wanted, g, allow_unused=True)

    reference = step(forms["eager"])[0]
    for name, form in forms.items():
        if not name.startswith("plain"):
            _check(name, step(form)[0], reference)
    calls = {name: Call(partial(step, form)) for name, form in forms.items()}
    return compare(clock.in_turn(calls, setting.rounds, cold=True), _PAIRS)


def _check(name: str, got: Tensor | None, wanted: Tensor | None) -> None:
    assert got is not None
    assert wanted is not None
    difference = float((got.float() - wanted.float()).norm() / wanted.float().norm())
    if not difference <= 3e-2:
        raise RuntimeError(f"{name} gives another gradient: relative difference {difference:.2g}; nothing was timed")
