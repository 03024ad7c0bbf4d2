"""Choice of the implementation of the sweeps that computes a map, and its reason.

Three modules hold the same eight functions: ``triton_sweeps`` for CUDA, ``native_sweeps`` (C++) for CPUs and
``plain_sweeps`` (PyTorch operators) for everything. Left alone, the first that can is taken. An explicit choice,
``with senet.kernels.dispatch.use("native"):``, is taken or raises.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from senet.errors import InputError, did_you_mean

__all__ = ["IMPLEMENTATIONS", "Choice", "choose", "explain", "use"]

IMPLEMENTATIONS = ("triton", "native", "plain")
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

_forced: str | None = None


@dataclass(frozen=True)
class Choice:
    """An implementation, and for each that comes before it why it is not it.

    Attributes:
        name: one of :data:`IMPLEMENTATIONS`.
        sweeps: the module with the functions.
        passed_over: name and reason.
    """

    name: str
    sweeps: ModuleType
    passed_over: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.name + "".join(f"; not {name}: {reason}" for name, reason in self.passed_over)


@contextmanager
def use(name: str | None) -> Iterator[None]:
    """Takes one implementation for all maps in the block of code, forward and backward; None: the automatic choice.

    It holds for all threads, since backward runs in others.

    Raises:
        InputError: an unknown name; and from within, where a map is met that the implementation cannot compute.
    """
    global _forced
    if name is not None and name not in IMPLEMENTATIONS:
        accepted = ", ".join(map(repr, IMPLEMENTATIONS))
        raise InputError(f"no implementation is called {name!r}{did_you_mean(name, IMPLEMENTATIONS)}: {accepted}")
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def choose(x: Tensor) -> Choice:
    """The implementation for a map.

    Raises:
        InputError: the one asked for by :func:`use` cannot compute it, and why; or the dtype is none of
            :data:`DTYPES`.
    """
    return _choose(x.device.type, x.dtype, _forced)


def explain(device: torch.device | str, dtype: torch.dtype = torch.float32) -> str:
    """Explains the answer of :func:`choose` for such a map in words."""
    return str(_choose(torch.device(device).type, dtype, _forced))


@cache
def _choose(device: str, dtype: torch.dtype, forced: str | None) -> Choice:
    if dtype not in DTYPES:
        raise InputError(f"the map is {dtype}; accepted: {', '.join(map(str, DTYPES))}")
    passed_over: list[tuple[str, str]] = []
    for name in IMPLEMENTATIONS:
        if forced is not None and name != forced:
            continue
        reason = _unable(name, device)
        if reason is None:
            return Choice(name, importlib.import_module(f"senet.kernels.{name}_sweeps"), tuple(passed_over))
        passed_over.append((name, reason))
    raise InputError(
        f"{forced!r} was asked for, but {passed_over[0][1]}; give another to senet.kernels.dispatch.use, or None"
    )


def _unable(name: str, device: str) -> str | None:
    """Returns the reason why an implementation cannot compute maps on a device, or None."""
    if name == "triton":
        if device != "cuda" and not (device == "cpu" and os.environ.get("TRITON_INTERPRET") == "1"):
            return f"it needs a CUDA device, and the map is on {device}"
        if importlib.util.find_spec("triton") is None:
            return "triton is not installed"
    if name == "native":
        if device != "cpu":
            return f"it computes on CPUs, and the map is on {device}"
        from senet.kernels.native_build import BuildError, library

        try:
            library()
        except BuildError as error:
            return str(error)
    return None
