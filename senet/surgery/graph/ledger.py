"""The gated maps of a walk, each accounted for once: taken, or left with a reason."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from senet.surgery.graph.gates import Gated, Key, find
from senet.surgery.graph.walk import Reading, Walk
from senet.surgery.report import Report

__all__ = ["Ledger", "inside", "outside"]


class Ledger:
    """Gated maps by their key, each once: taken, or left with a reason; and none that a run made is forgotten.

    Args:
        verb: of the report.
        walk: whose :attr:`observed` run says which there are.
    """

    def __init__(self, verb: str, walk: Walk) -> None:
        self.verb, self.walk = verb, walk
        self.taken: dict[Key, tuple[str, str]] = {}
        self.left: dict[Key, tuple[str, str]] = {}
        self.final: set[Key] = set()

    def take(self, key: Key, place: str, what: str) -> None:
        """Notes a site that was taken."""
        self.taken[key] = place or "the model", what

    def take_all(self, module: nn.Module) -> None:
        """Notes that all gated maps of a module and its parts are known."""
        for part in module.modules():
            for index in range(self.walk.observed.gated.get(self.walk.twins[part], 0)):
                self.taken[self.walk.paths[part], index] = (self.walk.paths[part] or "the model", "")

    def leave(self, key: Key, place: str, reason: str, *, final: bool = False) -> None:
        """Notes a site that was left, in the place of an earlier reason unless that was a final one."""
        if final or key not in self.final:
            self.left[key] = place or "the model", reason
        if final:
            self.final.add(key)

    def closed(self, refusal: Callable[[Reading, Gated], str | None] = lambda *_: None) -> Report:
        """The report: what was refused by the outermost graph that shows it, and what no graph shows.

        Args:
            refusal: why a verb has no use for a gated map, or None.
        """
        for module in self.walk.hosts():
            for reading in self.walk.read(module):
                found = find(reading)
                for refused in found.refused:
                    self.leave(refused.key, refused.place, refused.reason)
                for site in found.gated:
                    self.leave(site.key, site.place, refusal(reading, site) or "no graph holds all of it")
        for twin, count in self.walk.observed.gated.items():
            module = self.walk.modules[twin]
            path = self.walk.paths[module]
            for index in range(count):
                key = (path, index)
                if key not in self.taken and key not in self.left:
                    self.left[key] = path or "the model", self._unread(module)
        left = [row for key, row in self.left.items() if key not in self.taken]
        return Report(self.verb, list(self.taken.values()), left)

    def _unread(self, module: nn.Module) -> str:
        """Why no graph shows a gated map of a module: the reason of the module, or of the nearest around it."""
        path = self.walk.paths[module]
        around = {p: m for m, p in self.walk.paths.items() if m in self.walk.untraceable}
        around = {p: m for p, m in around.items() if not p or f"{path}.".startswith(f"{p}.")}
        return self.walk.untraceable[around[max(around, key=len)]] if around else "no graph shows it"


def inside(path: str, prefix: str) -> str:
    """A path in the model as one in a module of it."""
    return path[len(prefix) :].removeprefix(".")


def outside(path: str, prefix: str) -> str:
    """A path in a module of the model as one in the model."""
    return ".".join(p for p in (prefix, path) if p)
