"""Times on a GPU, by events, in turn; on the CPU by the clock, so that a dry run goes the same way."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from senet.measure import ratio

__all__ = ["Call", "Clock", "compare", "microseconds"]


class Call(NamedTuple):
    """What is timed, and what runs right before it in real use, untimed."""

    run: Callable[[], object]
    before: Callable[[], object] = lambda: None


class Clock:
    """Times calls on a device.

    A *cold* time is that of a call whose data lie in memory, not in the cache: a gigabyte is read first. That reading
    is also long enough for the processor to hand over all of the call before the GPU begins it, so that nothing but
    the GPU's own work is timed. Times that are not cold are what a user waits for.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            self._other = torch.empty(2**28, device=device).normal_()
            self._reading = min(self._one(self._other.sum, 0) for _ in range(5))

    def in_turn(
        self, calls: Mapping[str, Call], rounds: int, *, cold: bool = False, warmup: int = 3
    ) -> dict[str, list[float]]:
        """The seconds of each call in each round, as :func:`senet.measure.in_turn` gives them."""
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        reads: dict[str, int] = {}
        for index in range(warmup + rounds):
            for name in calls if index % 2 else reversed(list(calls)):
                taken = self._one(calls[name].run, reads.get(name, 0), calls[name].before)
                if index >= warmup:
                    seconds[name].append(taken)
            if cold and index == warmup - 1 and self.device.type == "cuda":
                reads = {name: self._reads(call) for name, call in calls.items()}
        return seconds

    def _reads(self, call: Call) -> int:
        """How often the gigabyte is read for the processor to be ahead, with half as much again."""
        torch.cuda.synchronize(self.device)
        since = time.perf_counter()
        call.before()
        call.run()
        return max(1, math.ceil(1.5 * (time.perf_counter() - since) / self._reading))

    def _one(self, run: Callable[[], object], reads: int, before: Callable[[], object] = lambda: None) -> float:
        if self.device.type != "cuda":
            before()
            since = time.perf_counter()
            run()
            return time.perf_counter() - since
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(self.device)
        for _ in range(reads):
            self._other.sum()
        before()
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3


def microseconds(seconds: Sequence[float]) -> float:
    """The median."""
    return round(1e6 * statistics.median(seconds), 2)


def compare(seconds: Mapping[str, Sequence[float]], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Medians in milliseconds, and ratios of the pairs that are there with their 95 % intervals."""
    found = {f"{a} / {b}": ratio(seconds[a], seconds[b]) for a, b in pairs if a in seconds and b in seconds}
    return {
        "rounds": len(next(iter(seconds.values()))),
        "ms": {name: round(1e3 * statistics.median(times), 4) for name, times in seconds.items()},
        "ratio": {name: [round(n, 4) for n in (r.median, r.low, r.high)] for name, r in found.items()},
    }
