"""Whole networks, in training and inference: with SE as it is, fused or folded, and their twins without SE."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu.clock import Call, Clock, compare
from benchmarks.gpu.setting import Case, Network, Setting
from senet.surgery.folding.fold import fold
from senet.surgery.fusing.fuse import fuse
from senet.surgery.gating.strip import strip
from senet.surgery.report import report

__all__ = ["Arm", "cases", "inference_arms", "training_arms"]

_TRAINING = ("plain", "se", "fused", "plain+compile", "se+compile", "fused+compile")
_TRAINING_PAIRS = [
    ("fused+compile", "plain+compile"),
    ("fused", "plain"),
    ("se+compile", "plain+compile"),
    ("se", "plain"),
    ("fused+compile", "se+compile"),
]
_INFERENCE = ("plain+compile", "se+compile", "folded+compile", "plain folded+compile")
_INFERENCE_PAIRS = [
    ("folded+compile", "plain+compile"),
    ("folded+compile", "plain folded+compile"),
    ("se+compile", "plain+compile"),
]
_CALLS = 10  # of batches of one image, timed together


class Arm(NamedTuple):
    """A network ready to run: one step, and what it gives, to be compared."""

    step: Callable[[], object]
    result: Callable[[], Tensor]


def cases(setting: Setting, clock: Clock) -> Iterator[Case]:
    """Training of each network, then inference."""
    for network in setting.networks:
        key = {"what": "training", "model": network.name, "batch": setting.batch, "size": setting.size}
        yield Case(key, partial(_training, network, setting, clock), 240)
    for batch, mode in setting.inference:
        for network in setting.networks:
            key = {"what": "inference", "model": network.name, "batch": batch, "size": setting.size, "mode": str(mode)}
            yield Case(key, partial(_inference, network, batch, mode, setting, clock), 180)


def training_arms(network: Network, setting: Setting, names: tuple[str, ...] = _TRAINING) -> dict[str, Arm]:
    """Training steps in bfloat16 autocast: forward, cross-entropy, backward, SGD with momentum."""
    given = _given(network)
    x, labels = _images(setting.batch, setting), torch.arange(setting.batch, device=setting.device) % 10
    arms = {}
    for name in names:
        module = _placed(_made(given, name.partition("+")[0]), setting).train()
        call = setting.compiled(module) if name.endswith("+compile") else module
        loss = partial(_loss, call, x, labels)
        arms[name] = Arm(partial(_step, torch.optim.SGD(module.parameters(), lr=0.0, momentum=0.9), loss), loss)
    return arms


def inference_arms(network: Network, batch: int, mode: str | None, setting: Setting) -> dict[str, Arm]:
    """Forwards in bfloat16."""
    given = _given(network)
    x = _images(batch, setting).bfloat16()
    arms = {}
    for name in _INFERENCE:
        module = _placed(_made(given, name.partition("+")[0]), setting).eval().bfloat16()
        call = torch.inference_mode()(setting.compiled(module, mode))
        arms[name] = Arm(partial(_repeated, call, x, _CALLS if batch == 1 else 1), partial(_cloned, call, x))
    return arms


def _training(network: Network, setting: Setting, clock: Clock) -> dict[str, Any]:
    arms = training_arms(network, setting)
    _check(arms, "se", ("se+compile", "fused", "fused+compile"))
    peaks = {}
    for name, arm in arms.items():
        arm.step()
        peaks[name] = _peak(arm.step, setting)
    calls = {name: Call(arm.step) for name, arm in arms.items()}
    return compare(clock.in_turn(calls, setting.rounds), _TRAINING_PAIRS) | {"peak_mib": peaks}


def _inference(network: Network, batch: int, mode: str | None, setting: Setting, clock: Clock) -> dict[str, Any]:
    arms = inference_arms(network, batch, mode, setting)
    _check(arms, "se+compile", ("folded+compile",))
    _check(arms, "plain+compile", ("plain folded+compile",))
    calls = {name: Call(arm.step) for name, arm in arms.items()}
    return compare(clock.in_turn(calls, 2 * setting.rounds, warmup=5), _INFERENCE_PAIRS) | {
        "calls": _CALLS if batch == 1 else 1
    }


def _given(network: Network) -> dict[str, nn.Module]:
    """The network and its twin, with norms that let every branch count: timm starts some at zero."""
    torch.manual_seed(0)
    se = timm.create_model(network.name, **dict(network.options))
    plain = strip(se) if network.twin is None else timm.create_model(network.twin, **dict(network.options))
    for model in (se, plain):
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.3, 0.7)
    return {"se": se, "plain": plain}


def _made(given: Mapping[str, nn.Module], how: str) -> nn.Module:
    if how in given:
        return copy.deepcopy(given[how])
    made = {
        "fused": lambda: fuse(copy.deepcopy(given["se"])),
        "folded": lambda: fold(given["se"]),
        "plain folded": lambda: fold(given["plain"]),
    }[how]()
    if not report(made).taken:
        raise RuntimeError(f"nothing was {how}")
    return made


def _placed(module: nn.Module, setting: Setting) -> nn.Module:
    return module.to(setting.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _images(batch: int, setting: Setting) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, setting.size, setting.size, generator=generator)
    return x.to(setting.device, memory_format=torch.channels_last)


def _loss(call: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor) -> Tensor:
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        return F.cross_entropy(call(x), labels)


def _step(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> None:
    # A rate of 0 does all the arithmetic and leaves the weights where they are.
    optimizer.zero_grad(set_to_none=True)
    loss().backward()
    optimizer.step()


def _repeated(call: Callable[[Tensor], Tensor], x: Tensor, times: int) -> None:
    for _ in range(times):
        call(x)


def _cloned(call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return call(x).clone()  # a CUDA graph writes its next output over this one


def _check(arms: Mapping[str, Arm], reference: str, names: tuple[str, ...]) -> None:
    wanted = arms[reference].result().detach().float()
    for name in names:
        difference = float((arms[name].result().detach().float() - wanted).norm() / wanted.norm())
        if not difference <= 5e-2:
            raise RuntimeError(f"{name} differs from {reference} by {difference:.2g}; nothing was timed")


def _peak(step: Callable[[], object], setting: Setting) -> float:
    """MiB allocated during a step at most, beyond what was before it; 0 where nobody counts."""
    if not setting.on_cuda:
        return 0.0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
