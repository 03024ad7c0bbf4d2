"""Whether better plans than those of ``plan_sweep`` are near, and which of its numbers loses how much.

The sweeps are timed as they run in a step: a map right after the sums over the same map. Nothing is changed in the
sources; that is for whoever reads the table.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from benchmarks.gpu.cases import Site, randn, sites_of, sweeps_of
from benchmarks.gpu.clock import Call, Clock, microseconds
from benchmarks.gpu.plans import near
from benchmarks.gpu.setting import Case, Setting
from benchmarks.gpu.sweeps import calls_of, copy_of, place
from senet.kernels.dispatch import choose
from senet.kernels.triton_plan import Plan, plan_sweep

__all__ = ["cases", "search", "summary"]

_GAIN = 0.98  # a plan that takes more of the time than this is no better


def cases(setting: Setting, clock: Clock) -> Iterator[Case]:
    """A case for each sweep of each site, dtype, layout and batch."""
    for dtype, layout, batch in setting.maps(setting.dtypes):
        for site in sites_of(setting.hosts, setting.size, setting.most):
            given = (site, batch, dtype, layout)
            names = [sweep.name for sweep in sweeps_of(site._replace(height=1, width=1), 1, *given[2:], setting.device)]
            for name in names:
                yield Case({"sweep": name, **place(*given)}, partial(_measure, name, given, setting, clock), 30)


def search(
    default: Plan, seconds: Callable[[Plan], float | None], kind: str, shape: tuple[int, int, int]
) -> tuple[Plan, dict[str, float], int]:
    """Tries each change alone, then the best of them together, one after the other.

    Args:
        default: where to start.
        seconds: the time of a plan; None where it does not run.
        kind: as :func:`~benchmarks.gpu.plans.near` takes it.
        shape: likewise.

    Returns:
        The best plan; how many times as fast each field alone made it, at best; how many plans were tried.
    """
    start = seconds(default)
    assert start is not None, "the plan in use does not run"
    alone: dict[str, tuple[float, Plan]] = {}
    tried = 1
    for field, plan in near(default, kind, shape):
        taken, tried = seconds(plan), tried + 1
        if taken is not None and taken < alone.get(field, (float("inf"),))[0]:
            alone[field] = taken, plan
    best, least = default, start
    for field, (taken, plan) in sorted(alone.items(), key=lambda item: item[1][0]):
        if taken > _GAIN * start:
            break
        together = [p for f, p in near(best, kind, shape) if f == field] if best != default else [plan]
        for candidate in together:
            now, tried = seconds(candidate), tried + 1
            if now is not None and now < _GAIN * least:
                best, least = candidate, now
    return best, {field: round(start / taken, 3) for field, (taken, _) in alone.items()}, tried


def summary(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """For each kind of sweep and each number of a plan: what it loses in the middle and at worst, and where."""
    lost: dict[tuple[str, ...], list[tuple[float, str]]] = defaultdict(list)
    for line in lines:
        where = f"{line['sweep']} {line['shape']}"
        for field, gain in (line["gain"] | {"all": line["best_gain"]}).items():
            lost[line["rule"], line["layout"], line["dtype"], field].append((gain, where))
    for rule, gains in sorted(lost.items()):
        worst, where = max(gains)
        middle = statistics.median(gain for gain, _ in gains)
        yield f"{' '.join(rule):40} median x{middle:.3f}, at most x{worst:.3f} ({where}), {len(gains)} cases"


def _measure(name: str, given: tuple[Site, int, torch.dtype, str], setting: Setting, clock: Clock) -> dict[str, Any]:
    site, batch, _, layout = given
    x = randn(*given, setting.device)
    chosen = choose(x)
    every = sweeps_of(*given, setting.device)
    sweep = next(s for s in every if s.name == name)
    shape = (batch, site.channels, site.height * site.width)
    default = plan_sweep(sweep.kind, sweep.reads, shape, x.element_size(), layout)  # type: ignore[arg-type]
    copy, moved = copy_of(sweep, given, setting.device)
    calls = calls_of(sweep, every, chosen.sweeps)
    *_, (_, real) = calls.items()
    found = {"implementation": chosen.name, "rule": f"{sweep.kind} of {sweep.reads}", "bytes": moved}
    if chosen.name != "triton":  # a dry run without Triton's interpreter: nothing has a plan
        times = clock.in_turn({"copy": copy, "default": real}, setting.rounds, cold=True)
        us = {which: microseconds(t) for which, t in times.items()}
        return found | {"us": us, "best_gain": 1.0, "gain": {"all": 1.0}, "tried": 1, "plan": "none"}
    exact = _numbers(name, sweep.call(chosen.sweeps))

    def planned(plan: Plan) -> Call:
        return real._replace(run=partial(sweep.call, chosen.sweeps, plan=plan))

    def seconds(plan: Plan) -> float | None:
        from triton.runtime.errors import OutOfResources

        try:
            result = _numbers(name, sweep.call(chosen.sweeps, plan=plan))
        except OutOfResources:
            return None
        if not all(
            torch.allclose(a, b, rtol=2e-2, atol=2e-2 * float(b.abs().max()))
            for a, b in zip(result, exact, strict=True)
        ):
            raise RuntimeError(f"{plan} gives other results")
        times = clock.in_turn({"plan": planned(plan)}, setting.rounds, cold=True, warmup=2)
        return statistics.median(times["plan"])

    best, gain, tried = search(default, seconds, sweep.kind, shape)
    # The search looked at one plan after the other; what is told comes from times taken in turn.
    last = {"copy": copy, "default": planned(default), "best": planned(best)}
    us = {which: microseconds(t) for which, t in clock.in_turn(last, 2 * setting.rounds, cold=True).items()}
    return found | {
        "us": us,
        "share_of_copy": {which: round(us["copy"] / us[which], 3) for which in ("default", "best")},
        "best_gain": round(us["default"] / us["best"], 3),
        "gain": gain,
        "tried": tried,
        "plan": {"default": repr(default), "best": repr(best)},
    }


def _numbers(name: str, result: Any) -> list[Tensor]:
    """What a sweep gives, to be compared: of a mean and what its rounding left, only the sum means anything."""
    if name == "moments":
        mean, rest, m2 = result
        return [mean + rest, m2]
    return [t.float() for t in tree_leaves(result)]
