"""A published table beside our own trainings of its comparison at another scale: what agrees, and what was shown."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Protocol

from senet.analysis.arms import Arm, Spread
from senet.analysis.paired import ROUNDING, Paired, pair
from senet.options import to_plain

__all__ = ["Compared", "Contrast", "Entry", "Outcome", "Row", "errors_of", "network"]

Outcome = Literal["same sign, shown", "same sign, not shown", "other sign, not shown", "other sign, shown"]


class Entry(Protocol):
    """Entry of a table of comparisons, such as :class:`senet.recipes.tables.Arm`."""

    @property
    def label(self) -> str:
        """Label that tells the entry from the others of its table."""

    @property
    def model(self) -> str:
        """The network's name."""

    @property
    def options(self) -> Mapping[str, Any]:
        """The network's options."""

    @property
    def row(self) -> str:
        """The row of the published table that it stands for; empty: none."""


@dataclass(frozen=True)
class Contrast:
    """Top-1 error of ``entry`` minus that of ``reference``, in points: below zero is better.

    Attributes:
        entry: the one.
        reference: the one that it is compared with.
        paired: the differences of our runs, seed by seed.
        published: the paper's differences that it is held against: that of these two rows, or those of all pairs in a
            table of other networks.
    """

    entry: Entry
    reference: Entry
    paired: Paired
    published: tuple[Decimal, ...]

    @property
    def outcome(self) -> Outcome | None:
        """Whether our difference has the sign of the paper's, and whether the seeds show it.

        None where there is nothing to hold together: no seed of both, no published difference, published ones of both
        signs, or a difference of zero up to rounding.
        """
        signs = {_sign(difference) for difference in self.published}
        ours = 0 if self.paired.spread is None else _sign(self.paired.spread.mean)
        if not ours or len(signs) != 1 or 0 in signs:
            return None
        if ours in signs:
            return "same sign, shown" if self.paired.shown else "same sign, not shown"
        return "other sign, shown" if self.paired.shown else "other sign, not shown"


@dataclass(frozen=True)
class Row:
    """An entry with what was measured."""

    entry: Entry
    planned: tuple[int, ...]  # seeds
    arm: Arm | None  # None: not run
    published: Decimal | None  # top-1 error, percent
    plain: Contrast | None  # with the network without blocks
    standard: Contrast | None  # with the paper's block

    @property
    def errors(self) -> dict[int, float]:
        """Top-1 error, 100 - accuracy, in percent, by seed."""
        return errors_of(self.arm)

    @property
    def error(self) -> Spread | None:
        """Mean and standard deviation over seeds."""
        return Spread.of(list(self.errors.values())) if self.errors else None

    @property
    def missing(self) -> str:
        """``"not run"``, ``"3 of 5 seeds"``, or nothing where all planned seeds are there."""
        done = sum(seed in self.errors for seed in self.planned)
        if not done:
            return "not run"
        return "" if done == len(self.planned) else f"{done} of {len(self.planned)} seeds"


@dataclass(frozen=True)
class Compared:
    """A table of the paper beside our runs on one data set."""

    edition: str
    number: str
    title: str
    dataset: str | None  # None: nothing was run
    rows: tuple[Row, ...]

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """All differences of which there is a seed, those to plain networks first."""
        found = [contrast for row in self.rows if (contrast := row.plain)]
        found += [contrast for row in self.rows if (contrast := row.standard)]
        return tuple(contrast for contrast in found if contrast.paired.spread is not None)

    @property
    def twins(self) -> tuple[tuple[Row, Row], ...]:
        """Each row with blocks after its plain one, where there are runs of both."""
        rows = {row.entry.label: row for row in self.rows}
        pairs = [(rows[row.plain.reference.label], row) for row in self.rows if row.plain]
        return tuple(pair for pair in pairs if all(row.errors for row in pair))

    @property
    def ordered(self) -> tuple[int, int]:
        """Numbers of pairs of rows: those in the paper's order, and all whose published errors differ.

        Two rows are compared by their means over the seeds of both; those with none in common are left out.
        """
        known = [(row.published, row.errors) for row in self.rows if row.published is not None]
        pairs = [
            (_sign(mine - theirs), _sign(ours.mean))
            for (mine, a), (theirs, b) in itertools.combinations(known, 2)
            if mine != theirs and (ours := pair(a, b).spread)
        ]
        return sum(paper == here for paper, here in pairs), len(pairs)


def errors_of(arm: Arm | None) -> dict[int, float]:
    """Top-1 error, 100 - accuracy, in percent, by seed; empty without an arm."""
    return {} if arm is None else {seed: 100 - top1 for seed, top1 in zip(arm.seeds, arm.accuracies, strict=True)}


def network(model: str, options: Mapping[str, Any]) -> str:
    """Name and options as one text, which tells a network from all others."""
    return json.dumps([model, to_plain(options)], sort_keys=True)


def _sign(number: float | Decimal) -> int:
    return (number > ROUNDING) - (number < -ROUNDING)
