"""Times that can be compared: taken in turn in one run, summed up by medians, with an interval.

A machine's speed drifts with its neighbours, so a time alone says little. Two things timed in turn drift together;
the ratio of their times pair by pair does not.
"""

from __future__ import annotations

import os
import platform
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["Ratio", "device_name", "in_turn", "ratio", "source_commit"]

_RESAMPLES = 2000


@dataclass(frozen=True)
class Ratio:
    """The median of ratios of times, and its 95 % interval by bootstrap."""

    median: float
    low: float
    high: float

    def verdict(self, bound: float) -> str:
        """Whether the ratio is at most ``1 + bound``: in words, ``"too noisy to tell"`` among them."""
        within = f"{100 * bound:g} %"
        if self.high <= 1 + bound:
            return f"within {within}"
        return f"above {within}" if self.low > 1 + bound else "too noisy to tell"


def ratio(mine: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """Returns the ratio of one series of times to another, taken in turn: the median and its 95 % interval.

    Args:
        mine: seconds.
        theirs: as many, the i-th taken right before or after the i-th of ``mine``.
    """
    ratios = [a / b for a, b in zip(mine, theirs, strict=True)]
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(_RESAMPLES))
    ends = (medians[int(share * _RESAMPLES)] for share in (0.025, 0.975))
    return Ratio(statistics.median(ratios), *ends)


def in_turn(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 3,
    device: torch.device | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """The seconds that each call took in each round, all calls in every round.

    Every second round goes through the calls backwards, so that none always follows the same other one.

    Args:
        calls: what to time, by name.
        rounds: how many times are kept.
        warmup: how many rounds before are not.
        device: waited for after each call where it is a CUDA device.
        clock: seconds; ``time.process_time`` counts those of this process alone, which on a machine with neighbours
            says more of a call that runs on one thread.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(warmup + rounds):
        for name in calls if index % 2 else reversed(list(calls)):
            since = clock()
            calls[name]()
            if device is not None and device.type == "cuda":
                torch.cuda.synchronize(device)
            if index >= warmup:
                seconds[name].append(clock() - since)
    return seconds


def device_name(device: torch.device) -> str:
    """Returns the name of the device that a result is from: the GPU's name, or the processor's kind and cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"


def source_commit() -> str | None:
    """The commit that this package's source is at, with ``-dirty`` where files differ; None outside its repository."""
    here = Path(__file__)
    try:
        # Installed, it may lie in somebody else's repository, which does not know the file.
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        return _git(here.parent, "describe", "--always", "--dirty", "--exclude=*")
    except (FileNotFoundError, subprocess.CalledProcessError):  # no git, or no repository of ours
        return None


def _git(folder: Path, *command: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, check=True)  # noqa: S603, S607
    return done.stdout.strip()
