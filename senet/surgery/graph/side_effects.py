"""Traces of a forward on what lies outside of it, watched while it is traced and undone: random numbers, autocast."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from senet.surgery.graph.guards import Unguardable

__all__ = ["both_autocasts", "random_numbers_kept"]


@contextmanager
def both_autocasts() -> Iterator[None]:
    """Switches autocast on, so that a forward that switches it off can be told; nothing is computed meanwhile.

    Raises:
        Unguardable: it is switched on, where the forward runs, for a part of it.
    """
    entered = torch.autocast.__enter__

    def enter(self: torch.autocast) -> object:
        if self._enabled:
            raise Unguardable("it switches autocast on inside")
        return entered(self)

    before = {kind: torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")}
    for kind in before:
        torch.set_autocast_enabled(kind, True)
    torch.autocast.__enter__ = enter  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.autocast.__enter__ = entered  # type: ignore[method-assign]
        for kind, enabled in before.items():
            torch.set_autocast_enabled(kind, enabled)


@contextmanager
def random_numbers_kept() -> Iterator[None]:
    """Gives all random numbers back that were drawn.

    Raises:
        Unguardable: any were: a coin, say, is no graph.
    """
    numpy = sys.modules.get("numpy")
    ours, theirs = random.getstate(), None if numpy is None else numpy.random.get_state()
    tensors = torch.get_rng_state()
    try:
        yield
        drawn = random.getstate() != ours or not torch.equal(torch.get_rng_state(), tensors)
        if numpy is not None and theirs is not None:
            now = numpy.random.get_state()
            drawn = drawn or now[2:] != theirs[2:] or not (now[1] == theirs[1]).all()
        if drawn:
            raise Unguardable("it draws random numbers in Python while it runs")
    finally:
        random.setstate(ours)
        torch.set_rng_state(tensors)
        if numpy is not None and theirs is not None:
            numpy.random.set_state(theirs)
