"""Published figures beside our counts, on the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from senet.analysis.claims import Claim, countable
from senet.cli.show import console
from senet.options import to_plain
from senet.published import Figure

if TYPE_CHECKING:
    from senet.recipes.table import Scale
    from senet.recipes.table import Table as Trainable
    from senet.study.published_weights import Evaluated

Runs = Mapping[tuple[str, Path], Mapping[str, int]]
"""By images and file the arms and how many seeds they have: :func:`senet.recipes.evidence.evidence_of`."""

__all__ = ["print_claims", "print_evaluated", "print_tables", "print_trainings"]


def print_claims(claims: Sequence[Claim], *, whole: bool) -> None:
    """Prints the comparison: each figure of one table, or the number of figures of many tables, and all differences."""
    if whole:
        _print_each(claims)
    else:
        _print_numbers(claims)
        console.print()
        if differing := [claim for claim in claims if not claim.agrees]:
            _print_each(differing)
    right = sum(claim.agrees for claim in claims)
    console.print(f"{right} of {len(claims)} figures agree, {len(claims) - right} differ.", style="bold")


def _print_each(claims: Sequence[Claim]) -> None:
    words = list(dict.fromkeys(claim.words or "no rule known" for claim in claims))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("row", overflow="fold")
    for name in ("what", "published", "ours", "", "how"):
        table.add_column(name, justify="right" if name in ("published", "ours", "how") else "left", no_wrap=True)
    for claim in claims:
        how = words.index(claim.words or "no rule known") + 1
        verdict = "agrees" if claim.agrees else "differs"
        style = "" if claim.agrees else "bold"
        table.add_row(claim.row, claim.what, claim.published, claim.ours, verdict, str(how), style=style)
    console.print(table)
    console.print()
    for how, text in enumerate(words, 1):
        console.print(f"{how:>3}  {text}")
    console.print()


def _print_numbers(claims: Sequence[Claim]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("where", overflow="fold")
    for name in ("figures", "agree", "differ"):
        table.add_column(name, justify="right")
    for where in dict.fromkeys(claim.where for claim in claims):
        here = [claim for claim in claims if claim.where == where]
        right = sum(claim.agrees for claim in here)
        table.add_row(where, str(len(here)), str(right), str(len(here) - right))
    console.print(table)


def print_tables(
    titles: Mapping[tuple[str, str], str],
    figures: Sequence[Figure],
    evidence: Mapping[str, Runs],
) -> None:
    """The published tables: what counting can check, what needs runs, and which runs there are.

    Args:
        titles: by edition and table.
        figures: all.
        evidence: the runs of each table of the TPAMI edition, and of our own comparisons (edition ``ours``).
    """
    for edition in dict.fromkeys(its for its, _ in titles):
        console.print(edition, style="bold")
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("table", no_wrap=True)
        for name in ("counted", "to be run"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("runs", no_wrap=True)
        table.add_column("title", overflow="fold")
        for number in (number for its, number in titles if its == edition):
            here = [figure for figure in figures if (figure.edition, figure.table) == (edition, number)]
            counted = sum(map(countable, here))
            runs = evidence.get(number, {}) if edition in ("tpami", "ours") else {}
            done = "\n".join(f"{sum(counts.values())} on {source}" for (source, _), counts in runs.items())
            waiting = str(len(here) - counted or "-")
            words = done or ("-" if waiting == "-" and edition != "ours" else "not run")
            table.add_row(number, str(counted or "-"), waiting, words, titles[edition, number])
        console.print(table)
        console.print()
    console.print(
        "counted: `senet reproduce TABLE` compares them. to be run: errors, times, precisions. runs: trainings of the "
        "same comparison, in the package and, with --out DIR, in yours; `senet reproduce TABLE --list` shows each. "
        "figure4, figure6 and figure7 are drawn by --check train."
    )


def print_trainings(table: Trainable | None, number: str, runs: Runs) -> None:
    """A table row by row: the recipe of each, what was run of it, and where the results lie."""
    if table is None:
        console.print(f"Table {number} is trained by its number in the TPAMI edition only.")
        return
    scales: tuple[tuple[Scale, Any], ...] = (("paper", table.paper), ("small", table.small))
    for scale, has in scales:
        console.print(f"{scale}:", style="bold")
        if not has:
            console.print(f"not run; {table.why_not}")
            continue
        rows = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("row", "trained by" if scale == "paper" else "network", "seeds run"):
            rows.add_column(name, overflow="fold")
        for arm, recipe in table.trainings(scale):
            options = f" {json.dumps(to_plain(arm.options))}" if arm.options else ""
            done = ", ".join(
                f"{counts[arm.label]} on {source}"
                for (source, _), counts in runs.items()
                if (source == "the paper's") == (scale == "paper") and counts.get(arm.label)
            )
            rows.add_row(arm.label, (recipe.name if scale == "paper" else arm.model) + options, done or "not run")
        console.print(rows)
    for source, path in runs:
        console.print(f"{source}: {path}", soft_wrap=True)


def print_evaluated(found: Sequence[Evaluated]) -> None:
    """Published weights evaluated again, beside what was published."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("row", "weights"):
        table.add_column(name, overflow="fold")
    for name in ("published, %", "their source, %", "here, %", "images"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        stated = "-" if one.stated is None else f"{one.stated:.2f}"
        here = f"{one.measured:.2f} ± {one.half_width:.2f}"
        table.add_row(one.row, one.weight, str(one.published), stated, here, f"{one.images:,}")
    console.print(table)
    console.print("Top-1 errors; ± half the 95 % interval for images drawn at random.")
