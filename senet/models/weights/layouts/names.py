"""Elements of a layout: lines of names, read in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from senet.models.net import Net

__all__ = ["PLAIN", "REST", "Layout", "Line", "Options", "Place", "Table", "lines"]

Options = Mapping[str, tuple[Any, ...]]  # of a network: name -> any of these values

REST = "{rest}"
PLAIN = r"{rest:(?!(?:.*\.)?se\.).+}"  # any module that is not inside a block

_FIELD = re.compile(r"\{(\w+)(?::([^{}]+))?\}")  # {u}, or {rest:any expression}
_MOVED = re.compile(r"\{(\w+)([+-]\d+)?\}")  # {u}, {u+1}


@dataclass(frozen=True)
class Line:
    """One kind of module: our name of it, theirs, and whether a convolution of ours is a linear layer there.

    A field in braces stands for a number, or for what the expression after its colon matches. On their side it may be
    moved, ``{u+1}``, and two fields are counted instead of read: ``{n}``, which unit of the network this is, and
    ``{i}``, which layer of its unit, norms not counted, both from 0. A unit is what has the fields ``s`` and ``u``.
    """

    ours: str
    theirs: str
    linear: bool = False

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches our names of such modules."""
        literals = _FIELD.split(self.ours)  # text, field, its expression or None, text, ...
        parts = [re.escape(literals[0])]
        for name, expression, text in zip(literals[1::3], literals[2::3], literals[3::3], strict=True):
            parts += [f"(?P<{name}>{expression or r'[0-9]+'})", re.escape(text)]
        return re.compile("".join(parts))

    def render(self, fields: Mapping[str, str]) -> str:
        """Their name of a module."""

        def value(match: re.Match[str]) -> str:
            name, offset = match.groups()
            return str(int(fields[name]) + int(offset)) if offset else fields[name]

        return _MOVED.sub(value, self.theirs)


@dataclass(frozen=True)
class Place:
    """Name of a tensor of ours in a layout, and whether the layer there is a linear one instead of a convolution."""

    key: str
    linear: bool


@dataclass(frozen=True)
class Table:
    """The names of one family of networks in one layout.

    Attributes:
        net: our class; :class:`Net` for all.
        lines: the names. The first line that fits a module counts, so exceptions come first.
        where: options that decide whether these are the names: the values that they have.
        needs: options that decide what the same tensors compute: the values that they have there.
        extra: modules that their networks have for training only.
    """

    net: type[Net]
    lines: tuple[Line, ...]
    where: Options = field(default_factory=dict)
    needs: Options = field(default_factory=dict)
    extra: tuple[str, ...] = ()

    def unmet(self, net: Net) -> Options:
        """The options that the networks there have otherwise than this one, with the values there."""
        return _differing(self.where, net) or _differing(self.needs, net)

    def distance(self, net: Net) -> tuple[int, int]:
        """Counts the options in which a network differs from those of this table: of ``where`` and of ``needs``."""
        return len(_differing(self.where, net)), len(_differing(self.needs, net))

    def places(self, keys: Iterable[str]) -> tuple[dict[str, Place], list[str]]:
        """Returns the place of each of our keys in this layout, and the keys that have no place there."""
        found: dict[str, Place] = {}
        homeless: list[str] = []
        units: dict[tuple[str, str], list[str]] = {}
        for key in keys:
            module, _, leaf = key.rpartition(".")
            for line in self.lines:
                if match := line.pattern.fullmatch(module):
                    fields = {**match.groupdict(), **_counted(match, units)}
                    found[key] = Place(f"{line.render(fields)}.{leaf}", line.linear)
                    break
            else:
                homeless.append(key)
        return found, homeless


def _differing(options: Options, net: Net) -> Options:
    return {name: values for name, values in options.items() if getattr(net.config, name) not in values}


def _counted(match: re.Match[str], units: dict[tuple[str, str], list[str]]) -> dict[str, str]:
    """The fields ``n`` and ``i`` of a module, from the units met so far, which are added to."""
    if not {"s", "u"} <= match.groupdict().keys():
        return {}
    layers = units.setdefault((match["s"], match["u"]), [])
    child = match.string[match.end("u") + 1 :].partition(".")[0]
    if not child.startswith("bn") and child not in layers:
        layers.append(child)
    return {"n": str(list(units).index((match["s"], match["u"]))), "i": str(len(layers) - 1)}


@dataclass(frozen=True)
class Layout:
    """The names of one library.

    Attributes:
        source: where they were read.
        tables: one or more a family.
        note: what its networks have that ours of the same name have not; said where weights do not fit.
        doubt: what its networks have that neither tensors nor needs show; said after a conversion.
    """

    source: str
    tables: tuple[Table, ...]
    note: str = ""
    doubt: str = ""

    def table(self, net: Net) -> Table | None:
        """The table for a network: of those of its class the nearest, even if it does not fit."""
        tables = [table for table in self.tables if table.net in (type(net), Net)]
        return min(tables, key=lambda table: table.distance(net), default=None)


def lines(*pairs: tuple[str, str] | tuple[str, str, bool]) -> tuple[Line, ...]:
    """Lines from their parts."""
    return tuple(Line(*pair) for pair in pairs)
