"""How much of the bandwidth of a copy each sweep reaches at each site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.cases import Site, Sweep, randn, sites_of, sweeps_of
from benchmarks.gpu.clock import Call, Clock, microseconds
from benchmarks.gpu.setting import Case, Setting
from senet.kernels.dispatch import choose

__all__ = ["calls_of", "cases", "copy_of", "place"]


def cases(setting: Setting, clock: Clock) -> Iterator[Case]:
    """A case for each site, dtype, layout and batch."""
    for dtype, layout, batch in setting.maps(setting.dtypes):
        for site in sites_of(setting.hosts, setting.size, setting.most):
            given = (site, batch, dtype, layout)
            yield Case({"what": "sweeps", **place(*given)}, partial(_measure, given, setting, clock), 15)


def place(site: Site, batch: int, dtype: torch.dtype, layout: str) -> dict[str, Any]:
    """What a line says of where it was measured."""
    return {
        "site": site.kind,
        "model": site.model,
        "shape": [batch, site.channels, site.height, site.width],
        "act": site.act,
        "dtype": str(dtype).removeprefix("torch."),
        "layout": layout,
    }


def copy_of(sweep: Sweep, given: tuple[Site, int, torch.dtype, str], device: torch.device) -> tuple[Call, int]:
    """A copy by PyTorch that reads and writes, together, as many bytes as a sweep; and these bytes."""
    x = randn(*given, device)
    source = x.flatten().repeat(-(-sweep.maps // 2))[: sweep.maps * x.numel() // 2].clone()
    target = torch.empty_like(source)
    return Call(lambda: target.copy_(source)), sweep.maps * x.numel() * x.element_size()


def calls_of(sweep: Sweep, others: list[Sweep], implementation: Any) -> dict[str, Call]:
    """The sweep with its maps in memory, and where one ran before it, right after that one."""
    run: Callable[[], object] = partial(sweep.call, implementation)
    before = next((other for other in others if other.name == sweep.before), None)
    return {"cold": Call(run)} | ({"after": Call(run, partial(before.call, implementation))} if before else {})


def _measure(given: tuple[Site, int, torch.dtype, str], setting: Setting, clock: Clock) -> dict[str, Any]:
    every = sweeps_of(*given, setting.device)
    chosen = choose(randn(*given, setting.device))
    found: dict[str, Any] = {"implementation": chosen.name, "sweeps": {}}
    for sweep in every:
        copy, moved = copy_of(sweep, given, setting.device)
        calls = {"copy": copy, **calls_of(sweep, every, chosen.sweeps)}
        times = {name: microseconds(t) for name, t in clock.in_turn(calls, setting.rounds, cold=True).items()}
        found["sweeps"][sweep.name] = {
            "us": times,
            "gb_per_s": {name: round(moved / us / 1e3, 1) for name, us in times.items()},
            "share_of_copy": {name: round(times["copy"] / us, 3) for name, us in times.items() if name != "copy"},
        }
    return found
