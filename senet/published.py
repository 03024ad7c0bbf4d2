"""Published figures, from ``published.toml``: what the paper's tables say, and by which rule our counts become it.

The file is the one home of these numbers. Tests hold our networks against it, ``senet info`` shows both side by side.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from importlib import resources
from types import MappingProxyType
from typing import Any

from senet.errors import InputError, did_you_mean

__all__ = ["NOT_EXPLAINED", "RULES", "Count", "Figure", "Rule", "counts", "editions", "explain", "figures", "tables"]

OPEN = "-"  # a cell that the source leaves open
FACTORS = {"M": Decimal(10**6), "G": Decimal(10**9)}


@dataclass(frozen=True)
class Figure:
    """One printed number.

    Attributes:
        edition: where it was printed, a key of :func:`editions`.
        table: the table's number there, or what the text is about, such as ``"text: time"``.
        row: the row as printed.
        metric: what was measured, such as ``"top1_error"``, ``"multiply_adds"``, ``"parameters"``.
        value: the number, with the digits that were printed.
        unit: ``"%"``, ``"points"``, ``"G"``, ``"M"``, ``"ms"`` ...
        model: the network by its name in :func:`senet.list_models`; None where we have none.
        options: what :func:`senet.create_model` needs to build that very network.
        image: height and width in pixels; None where it varies.
        verified: False where the number is recalled, not yet compared with the publication.
        rule: of a size, the words of the one rule that gives all sizes of its table; empty where there is none.
        note: of a size that no rule gives, what is known of it.
    """

    edition: str
    table: str
    row: str
    metric: str
    value: Decimal
    unit: str
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    image: int | None = None
    verified: bool = True
    rule: str = ""
    note: str = ""


@dataclass(frozen=True)
class Count:
    """The exact size of a network; None where the source gives none.

    Attributes:
        source: where the numbers come from.
        model: the network by its name in :func:`senet.list_models`.
        image: height and width in pixels.
        options: what :func:`senet.create_model` needs to build it.
        parameters: trained numbers.
        giga_multiply_adds: multiply-adds of one image / 10^9, to as many digits as the source gives.
        attention_parameters: those of the blocks.
        attention_multiply_adds: those of the blocks.
    """

    source: str
    model: str
    image: int
    options: Mapping[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    giga_multiply_adds: Decimal | None = None
    attention_parameters: int | None = None
    attention_multiply_adds: int | None = None


@dataclass(frozen=True)
class Rule:
    """A way to count: the sum of exact counts, rounded to the digits that were printed.

    Attributes:
        words: the rule, as a phrase about the published figure.
        parts: names of the counts it sums.
        rounding: one of :mod:`decimal`'s modes.
    """

    words: str
    parts: tuple[str, ...]
    rounding: str = ROUND_HALF_UP

    def gives(self, figure: Figure, counted: Mapping[str, int]) -> Decimal:
        """Returns the value that would have been printed in the place of a figure, had it been counted by this rule."""
        exact = sum(counted[part] for part in self.parts) / FACTORS[figure.unit]
        return exact.quantize(figure.value, rounding=self.rounding)

    def explains(self, figure: Figure, counted: Mapping[str, int]) -> bool:
        """Whether the figure follows from the counts by this rule."""
        return self.gives(figure, counted) == figure.value


NOT_EXPLAINED = "not explained"

RULES: Mapping[str, tuple[Rule, ...]] = MappingProxyType(
    {
        "parameters": (
            Rule("exact", ("parameters",)),
            Rule("counts the norms' running statistics too", ("parameters", "statistics")),
            Rule(
                "counts the norms' running statistics and a bias for each gate too",
                ("parameters", "statistics", "gates"),
            ),
            Rule("rounded down", ("parameters",), ROUND_DOWN),
        ),
        "multiply_adds": (
            Rule("exact", ("multiply_adds",)),
            Rule("counts the squeezes' elements too", ("multiply_adds", "squeezed")),
            Rule("counts the elements of squeezes and scales too", ("multiply_adds", "squeezed", "scaled")),
            Rule("counts the elements of sums too", ("multiply_adds", "summed")),
            Rule(
                "counts the elements of squeezes, scales and sums too",
                ("multiply_adds", "squeezed", "scaled", "summed"),
            ),
        ),
    }
)
"""The known ways to count, simplest first.

That a rule gives a figure does not prove that it was so counted. Where one rule gives all sizes of a table, the file
names it; no one rule gives all multiply-adds of Table 2.
"""


def editions() -> Mapping[str, str]:
    """The publications by their short names, in words."""
    return MappingProxyType(_read()["editions"])


def tables() -> Mapping[tuple[str, str], str]:
    """The titles of the tables, by edition and table, in the order of the file."""
    return MappingProxyType({(table["edition"], table["table"]): table["title"] for table in _read()["tables"]})


def figures(
    *, model: str | None = None, table: str | None = None, edition: str | None = None, metric: str | None = None
) -> tuple[Figure, ...]:
    """The published figures, in printed order, that have all the given attributes.

    Args:
        model: a network's name; one that nothing was published about gives no figures.
        table: ``"2"``, ``"text: time"`` ...
        edition: ``"tpami"``, ``"cvpr"``, ``"release"`` ...; see :func:`editions`.
        metric: ``"top1_error"``, ``"multiply_adds"`` ...

    Raises:
        InputError: a table, edition or metric that no figure has.
    """
    given = {"model": model, "table": table, "edition": edition, "metric": metric}
    wanted = {name: value for name, value in given.items() if value is not None}
    for name, value in wanted.items():
        known = {getattr(figure, name) for figure in _figures()}
        if name != "model" and value not in known:
            raise InputError(f"no published figure has {name} {value!r}{did_you_mean(value, known)}")
    return tuple(f for f in _figures() if all(getattr(f, name) == value for name, value in wanted.items()))


def counts(model: str | None = None) -> tuple[Count, ...]:
    """The exact counts, of one network or of all."""
    return tuple(count for count in _counts() if model in (None, count.model))


def explain(figure: Figure, counted: Mapping[str, int]) -> str:
    """The rule by which a published size follows from exact counts, or :data:`NOT_EXPLAINED`.

    Where one rule gives all sizes of a table (``figure.rule``), that one; else the simplest that gives this figure.

    Args:
        figure: one whose metric is a key of :data:`RULES`.
        counted: exact counts of the figure's network. For parameters: ``parameters``, ``statistics`` (the norms'
            running means and variances) and ``gates`` (channels that are scaled, over all blocks). For multiply-adds
            of one image: ``multiply_adds``, ``squeezed``, ``scaled`` (as :class:`senet.analysis.complexity.Cost` has
            them) and ``summed`` (elements of maps that are sums, such as residual ones).

    Raises:
        InputError: no rules for this metric, or a count that they need is missing.
    """
    if figure.metric not in RULES:
        raise InputError(f"no rule explains {figure.metric!r}{did_you_mean(figure.metric, RULES)}")
    rules = RULES[figure.metric]
    needed = sorted({part for rule in rules for part in rule.parts})
    if missing := [part for part in needed if part not in counted]:
        raise InputError(f"the counts lack {', '.join(missing)}; to explain {figure.metric} give {', '.join(needed)}")
    asked = [rule for rule in rules if figure.rule in ("", rule.words)]
    return next((rule.words for rule in asked if rule.explains(figure, counted)), NOT_EXPLAINED)


@functools.cache
def _read() -> dict[str, Any]:
    text = resources.files("senet").joinpath("published.toml").read_text(encoding="utf-8")
    return tomllib.loads(text, parse_float=Decimal)  # a Decimal keeps its digits


@functools.cache
def _figures() -> tuple[Figure, ...]:
    found = []
    for table in _read()["tables"]:
        for cells in _rows(table, "edition", "table", "image", "verified"):
            labels = {column: cell for column, cell in cells.items() if " " not in column}
            for column in [column for column in cells if column not in labels]:  # these have a unit
                metric, unit = column.split(" ")
                rule = table.get(f"{metric}_rule", "")
                note = table.get(f"{metric}_notes", {}).get(labels["row"], "")
                value = Decimal(cells[column])
                found.append(Figure(metric=metric, unit=unit, value=value, rule=rule, note=note, **labels))
    return tuple(found)


@functools.cache
def _counts() -> tuple[Count, ...]:
    return tuple(Count(**cells) for table in _read()["counts"] for cells in _rows(table, "source", "image"))


def _rows(table: Mapping[str, Any], *shared: str) -> Iterator[dict[str, Any]]:
    """Each row as its filled cells by column, with what all rows share."""
    common = {name: table[name] for name in shared if name in table}
    for row in table["rows"]:
        cells = zip(table["columns"], row, strict=True)
        yield {**common, **{column: cell for column, cell in cells if cell != OPEN}}
