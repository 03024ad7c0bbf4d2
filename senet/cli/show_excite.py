"""Results of the excitation lab, on the terminal."""

from __future__ import annotations

from typing import get_args

from rich.console import Console
from rich.table import Table

from senet.analysis.lab.answer import answer, notes
from senet.analysis.lab.leave_out import ALL, Change, How
from senet.analysis.lab.result import Excitation
from senet.analysis.wording import percent, signed

__all__ = ["print_excitation"]

_COLUMNS = (
    "between: share of the gates' variance that lies between classes; still: gates that hardly move; rank: effective "
    "rank; mean, 1, other: change of top-1 in points with the gates at their mean, at 1, of another image, * where it "
    "is more than chance does (McNemar's test)"
)

console = Console(highlight=False, markup=False)  # names of classes and files are no markup


def print_excitation(found: Excitation) -> None:
    """The answer, and a table with a row for each block."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("block", overflow="fold")
    for name in ("gates", "between", "still", "rank", "mean", "1", "other"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, site in found.sites.items():
        cells = [str(len(site.mean)), percent(site.share_between), percent(site.still)]
        table.add_row(name, *cells, f"{found.spectra[name].effective_rank:.1f}", *_changes(found, name))
    if len(found.sites) > 1:
        table.add_row(found.called(ALL), "", "", "", "", *_changes(found, ALL))
    console.print(table)
    console.print(_COLUMNS, style="dim")
    console.print(answer(found), style="bold")
    for note in notes(found):
        console.print(note)


def _changes(found: Excitation, site: str) -> list[str]:
    return [_starred(found.leave_out.of(site, how).top1) for how in get_args(How)]


def _starred(change: Change) -> str:
    return signed(change.points) + ("*" if change.shown else " ")
