"""Which kernels a training step launches, and how long each takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.clock import Clock
from benchmarks.gpu.networks import training_arms
from benchmarks.gpu.setting import Case, Network, Setting

__all__ = ["cases", "summary"]

_ARMS = ("plain+compile", "fused+compile", "plain", "fused")
_KERNELS = 25


def cases(setting: Setting, _clock: Clock) -> Iterator[Case]:
    """A case a network and way."""
    for network in setting.networks:
        for arm in _ARMS:
            key = {"model": network.name, "arm": arm, "batch": setting.batch, "size": setting.size}
            yield Case(key, partial(_measure, network, arm, setting), 90)


def summary(lines: list[dict[str, Any]]) -> Iterator[str]:
    """The kernels of each step that take the longest."""
    for line in lines:
        yield f"{line['model']} {line['arm']}: {line['launches']} launches, {line['device_ms']} ms"
        for kernel in line["kernels"][:10]:
            yield f"    {kernel['us']:10.1f} us {kernel['calls']:5} x {kernel['name']}"


def _measure(network: Network, arm: str, setting: Setting) -> dict[str, Any]:
    step = training_arms(network, setting, (arm,))[arm].step
    for _ in range(3):
        step()
    return _profile(step, setting)


def _profile(step: Callable[[], object], setting: Setting) -> dict[str, Any]:
    """Kernels on a GPU; on the CPU the operators."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if setting.on_cuda else [])]
    with profile(activities=activities) as seen:
        step()
        if setting.on_cuda:
            torch.cuda.synchronize()
    where = DeviceType.CUDA if setting.on_cuda else DeviceType.CPU
    rows = [row for row in seen.key_averages() if row.device_type == where]
    taken = {id(row): row.self_device_time_total if setting.on_cuda else row.self_cpu_time_total for row in rows}
    rows.sort(key=lambda row: -taken[id(row)])
    kernels = [{"name": r.key[:120], "calls": r.count, "us": round(taken[id(r)], 1)} for r in rows[:_KERNELS]]
    return {
        "launches": sum(row.count for row in rows),
        "device_ms": round(sum(taken.values()) / 1e3, 3),
        "kernels": kernels,
    }
