"""``senet reproduce --check train``: the arms of a comparison trained, compared, drawn."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import typer

from senet.analysis.evidence.compare import compare_table
from senet.analysis.evidence.compared import Compared, Row
from senet.analysis.evidence.plots import differences, dynamics
from senet.analysis.html import require_plotting
from senet.analysis.lab.page import check_folder, write_excitation
from senet.cli.grid_progress import ConsoleGrid
from senet.cli.progress import telling
from senet.cli.show_excite import print_excitation
from senet.cli.show_table import print_table
from senet.errors import InputError
from senet.files import write_whole
from senet.recipes.small import SOURCES
from senet.recipes.table import Arm, Scale
from senet.recipes.tables import TABLES, get_table
from senet.study.excitation import excite_trained
from senet.study.grid import CellsFailedError, run_grid
from senet.study.reporting import write_report
from senet.train.recipe import Recipe
from senet.train.trained import read_trained

__all__ = ["How", "train_figure", "train_table"]


@dataclass(frozen=True, kw_only=True)
class How:
    """Settings of the training of comparisons.

    Attributes:
        out: the grid's folder.
        scale: the paper's, or the small one.
        source: at the small scale the images, a key of :data:`senet.recipes.small.SOURCES`; None: the table's own.
        data: where the images lie; None: where their package puts them.
        seeds: how many, from 0.
        jobs: runs at a time; None: one for each GPU, where small networks leave room for more, or as the cores suffice.
        threads: of each on the CPU.
        changes: fields of the recipes and their values.
    """

    out: Path
    scale: Scale
    source: str | None
    data: Path | None
    seeds: int
    jobs: int | None
    threads: int
    changes: Mapping[str, Any]

    def recipe(self, recipe: Recipe, seed: int) -> Recipe:
        """A cell's."""
        root = {} if self.data is None else {"data.root": str(self.data.expanduser().resolve())}
        return recipe.override({**root, **self.changes, "run.seed": seed})

    def run(self, recipes: Sequence[Recipe]) -> tuple[list[dict[str, Any]], CellsFailedError | None]:
        """Trains what has no result yet; gives all results, and what was wrong where some could not be trained."""
        jobs = self.jobs or _jobs(self.threads)
        try:
            return run_grid(recipes, self.out, jobs=jobs, threads=self.threads, watch=ConsoleGrid()), None
        except CellsFailedError as error:
            if not error.lines:
                raise
            return error.lines, error
        except KeyboardInterrupt:
            typer.echo("senet: interrupted; the same command goes on from where it was", err=True)
            raise typer.Exit(130) from None


def train_table(number: str, how: How) -> None:
    """Trains a table's arms, prints it with its verdict and leaves a page and a plot.

    Raises:
        InputError: no such comparison at this scale, or what :func:`senet.study.grid.run_grid` refuses.
    """
    compared, _, failed = _compared(number, _trainings(number, how), how)
    print_table(compared)
    name = f"table-{number.replace(': ', '-').replace(' ', '-')}-{compared.dataset}"
    plot = how.out / f"{name}.svg"
    write_whole(plot, differences(compared).file("svg"))
    typer.echo(f"\nThe plot: {plot}")
    for page in _pages(compared, how.out, name):
        typer.echo(f"The page: {page}")
    typer.echo(f"The results: {how.out / 'results.jsonl'}")
    if failed:
        raise failed


def _compared(
    number: str, trainings: Sequence[tuple[Arm, Recipe]], how: How
) -> tuple[Compared, list[dict[str, Any]], CellsFailedError | None]:
    seeds = range(how.seeds)
    lines, failed = how.run([how.recipe(recipe, seed) for seed in seeds for _, recipe in trainings])
    arms = [arm for arm, _ in trainings]
    table = TABLES[number]
    return compare_table(lines, arms, table.baseline, number=number, seeds=seeds, title=table.title), lines, failed


def _pages(compared: Compared, out: Path, name: str) -> Iterator[Path]:
    """A page for each plain network, which comes first, with the arms that are compared with it; or one for all."""
    groups: dict[str, list[Row]] = {}
    for row in compared.rows:
        groups.setdefault((row.plain.reference if row.plain else row.entry).label, []).append(row)
    if all(len(rows) == 1 for rows in groups.values()):  # a table without plain networks
        groups = {"": list(compared.rows)}
    for plain, rows in groups.items():
        rows.sort(key=lambda row: row.entry.label != plain)
        runs = [(row.entry.label, out / "cells" / run) for row in rows if row.arm for run in row.arm.runs]
        gone = [run for _, run in runs if not run.is_dir()]
        if gone:
            typer.echo(f"No page: the runs of some results are not in {gone[0].parent} any more.", err=True)
        elif runs:
            page = out / (f"{name}.html" if len(groups) == 1 else f"{name}-{plain}.html")
            write_report([run for _, run in runs], page, labels=[label for label, _ in runs])
            yield page


def train_figure(number: str, how: How) -> None:
    """Trains what a figure shows and draws it: 4, the curves of twins; 6 and 7, the gates of one network by class.

    Raises:
        InputError: as :func:`train_table`; or no such figure can be drawn.
    """
    drawn = {"4": _curves, "6": _gates, "7": _gates}
    if number not in drawn:
        raise InputError(f"figure {number!r} cannot be drawn from trainings; accepted: {', '.join(drawn)}")
    drawn[number](how)


def _curves(how: How) -> None:
    trainings = _trainings("2", how)
    if how.scale == "paper":
        trainings = [(arm, recipe) for arm, recipe in trainings if arm.label.removeprefix("SE-") in _FIGURE_4]
    compared, lines, failed = _compared("2", trainings, how)
    histories = {line["run"]: line["history"] for line in lines}
    for plain, row in compared.twins:
        learnt = {twin.entry.label: [histories[run] for run in twin.arm.runs] for twin in (plain, row) if twin.arm}
        plot = how.out / f"figure-4-{plain.entry.label}-{compared.dataset}.svg"
        write_whole(plot, dynamics(learnt, name=plain.entry.label).file("svg"))
        typer.echo(f"The plot: {plot}")
    if failed:
        raise failed


_FIGURE_4 = ("ResNet-50", "ResNet-152", "ResNeXt-50 (32x4d)", "BN-Inception")  # as printed in Table 2


def _gates(how: How) -> None:
    wanted = {"small": "SE-ResNet-20", "paper": "SE-ResNet-50"}[how.scale]
    (recipe,) = (how.recipe(recipe, 0) for arm, recipe in _trainings("2", how) if arm.label == wanted)
    out = how.out / "figures-6-and-7"
    check_folder(out)
    lines, _ = how.run([recipe])
    trained = read_trained(how.out / "cells" / lines[0]["run"])
    with telling() as progress:
        found = excite_trained(trained, name=wanted, progress=progress)
    page, _ = write_excitation(found, out)
    print_excitation(found)
    typer.echo(f"\nThe page: {page}\nThe figures: {page.parent / 'figures'}")


def _trainings(number: str, how: How) -> list[tuple[Arm, Recipe]]:
    if how.source is not None and how.source not in SOURCES:
        raise InputError(f"--on is {how.source!r}; accepted: {', '.join(SOURCES)}")
    if how.source is not None and how.scale == "paper":
        raise InputError("--on chooses images for --scale small; the paper's scale has the paper's, --data says where")
    fixed = [name for name in how.changes if name in ("name", "run.seed") or name.partition(".")[0] == "model"]
    if fixed:
        raise InputError(
            f"--set {fixed[0]}: rows say which network, --seeds which seeds; change data, optim, schedule, loss, run"
        )
    require_plotting()  # not to be found missing after hours of training
    return get_table(number).trainings(how.scale, how.source)


def _jobs(threads: int) -> int:
    """A GPU each, or without one as many as the cores suffice for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return torch.cuda.device_count() or max(1, cores // threads)
