"""senet compare, senet report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from senet.cli.options import AsJson
from senet.cli.show import print_comparison, print_epochs
from senet.errors import InputError

__all__ = ["COMMANDS"]

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of complete runs.")]
Epochs = Annotated[
    str | None,
    typer.Option(metavar="N,N,...", help="Losses and errors after these epochs, for example 10,20,30."),
]


def compare(
    runs: Runs,
    epochs: Epochs = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the table by epoch; of --epochs, or of all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs: a table with differences; several seeds as mean, spread and number; and by epoch."""
    from senet.analysis.compare import compare
    from senet.analysis.epochs import epoch_table
    from senet.files import write_whole
    from senet.train.rundir import read_metrics, read_summary

    comparison = compare([read_summary(run) for run in runs])
    histories = {run: read_metrics(Path(run)) for arm in comparison.arms for run in arm.runs}
    chosen = _epochs(epochs) or list(range(1, 1 + max(map(len, histories.values()))))
    table = epoch_table(comparison.arms, histories, chosen)
    if csv:
        write_whole(csv, table.to_csv().encode())
    if as_json:
        by_epoch = {"by_epoch": table.to_dicts()} if epochs else {}
        typer.echo(json.dumps({**comparison.to_dict(), **by_epoch}, indent=2))
        return
    print_comparison(comparison)
    if epochs:
        print_epochs(table)
    if csv:
        typer.echo(f"\nThe table by epoch: {csv}")


def report(
    runs: Runs,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("report.html"),
    epochs: Epochs = None,
) -> None:
    """Write a page about runs: curves, accuracy, confusion, examples, gates. Opens without a network."""
    from senet.study.reporting import write_report

    write_report(runs, out, epochs=_epochs(epochs))
    typer.echo(f"The report: {out}")


def _epochs(text: str | None) -> list[int] | None:
    """The numbers of ``"10,20,30"``.

    Raises:
        InputError: it is no such list.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--epochs is {text!r}; accepted: numbers with commas between them, 10,20,30") from None


COMMANDS: dict[Callable[..., None], str] = {
    compare: "senet compare runs/plain-0 runs/se-0 runs/plain-1 runs/se-1 --epochs 10,20,30",
    report: "senet report runs/plain-0 runs/se-0 --out report.html",
}
