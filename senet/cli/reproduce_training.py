"""``senet reproduce --check train``: the arms of a comparison trained, compared, drawn."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import typer

from senet.analysis.evidence.compare import compare_table
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
from senet.recipes.table import Arm, Scale, Table
from senet.recipes.tables import TABLES, get_table
from senet.study.excitation import excite_trained
from senet.study.grid import run_grid
from senet.study.reporting import write_report
from senet.train.recipe import Recipe
from senet.train.trained import read_trained

__all__ = ["How", "train_figure", "train_table"]


@dataclass(frozen=True, kw_only=True)
class How:
    """How comparisons are trained.

    Attributes:
        out: the grid's folder.
        scale: the paper's, or the small one.
        source: at the small scale the images, a key of :data:`senet.recipes.small.SOURCES`; None: the table's own.
        data: where the images lie; None: where their package puts them.
        seeds: how many, from 0.
        jobs: runs at a time; None: one for each GPU, or as many as the cores suffice for.
        threads: of each on the CPU.
        changes: fields of the recipes and their values.
    """

    out: Path
    scale: Scale = "small"
    source: str | None = None
    data: Path | None = None
    seeds: int = 5
    jobs: int | None = None
    threads: int = 1
    changes: Mapping[str, Any]

    def recipe(self, recipe: Recipe, seed: int) -> Recipe:
        """A cell's."""
        root = {} if self.data is None else {"data.root": str(self.data.expanduser().resolve())}
        return recipe.override({**root, **self.changes, "run.seed": seed})

    def run(self, recipes: Sequence[Recipe]) -> list[dict[str, Any]]:
        """Trains what has no result yet."""
        jobs = self.jobs or _jobs(self.threads)
        try:
            return run_grid(recipes, self.out, jobs=jobs, threads=self.threads, watch=ConsoleGrid())
        except KeyboardInterrupt:
            typer.echo("senet: interrupted; the same command goes on from where it was", err=True)
            raise typer.Exit(130) from None


def train_table(number: str, how: How) -> None:
    """Trains a table's arms, prints it with its verdict and leaves a page and a plot.

    Raises:
        InputError: no such comparison at this scale, or what :func:`senet.study.grid.run_grid` refuses.
    """
    table, trainings, seeds = get_table(number), _trainings(number, how), range(how.seeds)
    arms = [arm for arm, _ in trainings]
    lines = how.run([how.recipe(recipe, seed) for seed in seeds for _, recipe in trainings])
    compared = compare_table(lines, arms, table.baseline, number=number, seeds=seeds)
    print_table(compared)
    name = f"table-{number.replace(': ', '-').replace(' ', '-')}-{lines[0]['dataset']}"
    plot = how.out / f"{name}.svg"
    write_whole(plot, differences(compared).file("svg"))
    pages = list(_pages(table, arms, lines, how.out, name))
    typer.echo("\n".join(["", f"The plot: {plot}", *(f"The page: {page}" for page in pages)]))
    typer.echo(f"The results: {how.out / 'results.jsonl'}")


def _pages(
    table: Table, arms: Sequence[Arm], lines: Sequence[Mapping[str, Any]], out: Path, name: str
) -> Iterator[Path]:
    """A page for each plain network with the arms that are compared with it; one for all where there is but one."""
    groups: dict[str, set[str]] = {}
    for arm in arms:
        groups.setdefault((table.baseline(arm) or arm).label, set()).add(arm.label)
    if all(len(labels) == 1 for labels in groups.values()):  # a table without plain networks
        groups = {arms[0].label: {arm.label for arm in arms}}
    runs = list(zip(itertools.cycle([arm.label for arm in arms]), lines))
    for plain, labels in groups.items():
        own = [(label, out / "cells" / line["run"]) for label, line in runs if label in labels]
        page = out / (f"{name}.html" if len(groups) == 1 else f"{name}-{plain}.html")
        write_report([run for _, run in own], page, labels=[label for label, _ in own])
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
    trainings, table = _trainings("2", how), TABLES["2"]
    lines = iter(how.run([how.recipe(recipe, seed) for _, recipe in trainings for seed in range(how.seeds)]))
    histories = {arm.label: [next(lines)["history"] for _ in range(how.seeds)] for arm, _ in trainings}
    for arm, _ in trainings:
        if plain := table.baseline(arm):
            twins = {label: histories[label] for label in (plain.label, arm.label)}
            plot = how.out / f"figure-4-{plain.label}.svg"
            write_whole(plot, dynamics(twins, name=plain.label).file("svg"))
            typer.echo(f"The plot: {plot}")


def _gates(how: How) -> None:
    wanted = {"small": "SE-ResNet-20", "paper": "SE-ResNet-50"}[how.scale]
    (recipe,) = (how.recipe(recipe, 0) for arm, recipe in _trainings("2", how) if arm.label == wanted)
    out = how.out / "figures-6-and-7"
    check_folder(out)
    (line,) = how.run([recipe])
    trained = read_trained(how.out / "cells" / line["run"])
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
    require_plotting()  # not to be found missing after hours of training
    return get_table(number).trainings(how.scale, how.source)


def _jobs(threads: int) -> int:
    """A GPU each, or else as many as the cores suffice for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return torch.cuda.device_count() or max(1, cores // threads)
