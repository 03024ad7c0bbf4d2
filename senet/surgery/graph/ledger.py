"""The gated maps of a walk, each accounted for once: taken, or left with a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from senet.surgery.graph.gates import Gated, Key, find
from senet.surgery.graph.walk import Reading, Walk
from senet.surgery.report import Report

__all__ = ["Ledger", "Outcome"]


UNREAD = "it is no product of a map (N, C, ...) and its gate as they are read; write it as u * gate to have it taken"

Row = tuple[Key, str, str]  # a gated map, where it is, and what became of it or why it was left


@dataclass
class Outcome:
    """The result of looking at one module, in words that hold for all modules of its kind: paths are relative to it.

    Attributes:
        taken: the gated maps that were rewritten, or were to be.
        refused: products that were refused.
        reason: why the module was left alone after all, or None.
        like: the module that was rewritten.
        made: new parts of the module by name, each made from a module of the kind.
    """

    taken: list[Row] = field(default_factory=list)
    refused: list[Row] = field(default_factory=list)
    reason: str | None = None
    like: nn.Module | None = None
    made: dict[str, Callable[[nn.Module], nn.Module]] = field(default_factory=dict)

    @staticmethod
    def of(prefix: str, readings: Sequence[Reading], taken: Mapping[Key, tuple[str, str]]) -> Outcome:
        """An outcome without a reason, for a module at a path."""
        found = [(r.key, r.place, r.reason) for reading in readings for r in find(reading).refused]
        rows = [(key, place, what) for key, (place, what) in taken.items()]
        return Outcome([_inside(row, prefix) for row in rows], [_inside(row, prefix) for row in found])


def _inside(row: Row, prefix: str) -> Row:
    """A row with paths in the model as one with paths in a module of it."""
    (path, index), place, what = row
    return (path[len(prefix) :].removeprefix("."), index), place[len(prefix) :].removeprefix("."), what


def _outside(row: Row, prefix: str) -> Row:
    """A row with paths in a module of the model as one with paths in the model."""
    (path, index), place, what = row
    whole, where = (".".join(p for p in (prefix, each) if p) for each in (path, place))
    return (whole, index), where, what


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

    def enter(self, outcome: Outcome, prefix: str) -> None:
        """Notes what came of a module at a path."""
        for key, place, what in (_outside(row, prefix) for row in outcome.taken):
            if outcome.reason is None:
                self.take(key, place, what)
            else:
                self.leave(key, place, outcome.reason, final=True)
        for key, place, reason in (_outside(row, prefix) for row in outcome.refused):
            self.leave(key, place, reason)

    def refuse(self, readings: Sequence[Reading]) -> None:
        """Notes what was refused in a module that is taken, into which nobody looks again."""
        for reading in readings:
            for refused in find(reading).refused:
                self.leave(refused.key, refused.place, refused.reason)

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
            readings = self.walk.read(module)
            self.refuse(readings)
            for reading in readings:
                for site in find(reading).gated:
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
        """Returns the reason why no graph shows a gated map of a module: its own, or that of the nearest around it."""
        path = self.walk.paths[module]
        around = {p: m for m, p in self.walk.paths.items() if m in self.walk.untraceable}
        around = {p: m for p, m in around.items() if not p or f"{path}.".startswith(f"{p}.")}
        return self.walk.untraceable[around[max(around, key=len)]] if around else UNREAD
