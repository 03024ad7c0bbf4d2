"""Published figures beside our counts, on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from senet.analysis.claims import Claim, countable
from senet.cli.show import console
from senet.published import Figure

__all__ = ["print_claims", "print_tables"]


def print_claims(claims: Sequence[Claim], *, whole: bool) -> None:
    """What was compared: each figure of one table, or of many tables their number, and all differences."""
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


def print_tables(titles: Mapping[tuple[str, str], str], figures: Sequence[Figure]) -> None:
    """The published tables: how many of their figures counting can check, and how many only running."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("edition")
    table.add_column("table", no_wrap=True)
    for name in ("counted", "to be run"):
        table.add_column(name, justify="right")
    table.add_column("title", overflow="fold")
    for (edition, number), title in titles.items():
        here = [figure for figure in figures if (figure.edition, figure.table) == (edition, number)]
        counted = sum(map(countable, here))
        table.add_row(edition, number, str(counted or "-"), str(len(here) - counted or "-"), title)
    console.print(table)
    console.print("counted: `senet reproduce TABLE` compares them; to be run: errors, times and precisions, not run.")
