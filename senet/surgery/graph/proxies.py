"""Stand-ins for tensors while a forward is traced, which know how many axes they have."""

from __future__ import annotations

import builtins
from typing import Any

from torch import fx

__all__ = ["RANKS", "RankProxy", "is_proxy"]

RANKS = {"dim", "ndimension"}  # methods that give the number of axes
_len = builtins.len  # while a forward is traced, another stands in its place


class _Counts:
    """A proxy that gives Python a number where it stands for a number of axes, or has as many entries as axes."""

    tracer: Any
    node: fx.Node

    def __index__(self) -> int:
        return int(self.tracer.rank(self.node))

    __int__ = __index__

    def __len__(self) -> int:
        value = self.tracer.value(self.node)
        if isinstance(value, tuple | list):
            return _len(value)
        raise TypeError("how many images a tensor has is no number while it is traced")


class RankProxy(_Counts, fx.Proxy):
    """A proxy of a value whose number of axes is known to its tracer."""

    def __getattr__(self, k: str) -> fx.proxy.Attribute:
        return _Attribute(self, k)


class _Attribute(_Counts, fx.proxy.Attribute):
    pass


def is_proxy(value: object) -> bool:
    """Whether a value stands for one that is not known while a forward is traced."""
    return isinstance(value, fx.Proxy)
