"""A published table beside our trainings of it, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from senet.analysis.evidence.verdicts import NOTE, TERMS, about, contrast_cells, exact_note, many, order, verdict
from senet.analysis.paired import RULE
from senet.analysis.wording import spread
from senet.cli.show import console

if TYPE_CHECKING:
    from senet.analysis.evidence.compared import Compared

__all__ = ["print_table"]


def print_table(compared: Compared) -> None:
    """The rows with what was measured, each difference, and the verdict with the rules it follows from."""
    console.print(f"Table {compared.number} ({compared.edition}): {compared.title}", style="bold")
    console.print(about(compared))
    _print_rows(compared)
    if compared.contrasts:
        _print_contrasts(compared)
    console.print()
    console.print(verdict(compared), style="bold")
    for sentence in filter(None, (order(compared), RULE, TERMS, many(compared), exact_note(compared.contrasts))):
        console.print(sentence)


def _print_rows(compared: Compared) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("network", overflow="fold")
    for name in ("parameters", "n", "top-1 error, %", "paper, %"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for row in compared.rows:
        parameters = "" if row.arm is None else f"{row.arm.parameters:,}"
        published = "" if row.published is None else str(row.published)
        table.add_row(row.entry.label, parameters, str(len(row.errors)), spread(row.error), published, row.missing)
    console.print(table)
    console.print(NOTE, style="dim")


def _print_contrasts(compared: Compared) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("difference", overflow="fold")
    for name in ("points [95 % interval]", "p", "exact p"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("beside the paper")
    for contrast in compared.contrasts:
        table.add_row(*contrast_cells(contrast), style="bold" if contrast.paired.shown else "")
    console.print()
    console.print(table)
