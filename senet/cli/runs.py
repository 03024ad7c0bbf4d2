"""senet compare, senet report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from senet.cli.options import AsJson
from senet.cli.show import print_comparison

__all__ = ["COMMANDS"]

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of complete runs.")]


def compare(runs: Runs, as_json: AsJson = False) -> None:
    """Compare runs: a table with differences; several seeds as mean, spread and number."""
    from senet.analysis.compare import compare
    from senet.train.rundir import read_summary

    comparison = compare([read_summary(run) for run in runs])
    if as_json:
        typer.echo(json.dumps(comparison.to_dict(), indent=2))
    else:
        print_comparison(comparison)


def report(
    runs: Runs,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("report.html"),
) -> None:
    """Write a page about runs: curves, accuracy, confusion, examples, gates. Opens without a network."""
    from senet.study.reporting import write_report

    write_report(runs, out)
    typer.echo(f"The report: {out}")


COMMANDS: dict[Callable[..., None], str] = {
    compare: "senet compare runs/plain-0 runs/se-0 runs/plain-1 runs/se-1",
    report: "senet report runs/plain-0 runs/se-0 --out report.html",
}
