"""senet train, senet twins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from senet.cli.options import Changes, DataDir
from senet.cli.progress import ConsoleWatch
from senet.cli.show import print_comparison, print_summary
from senet.errors import InputError
from senet.options import parse_assignments
from senet.recipes import get_recipe
from senet.train.recipe import BaseRecipe

__all__ = ["COMMANDS"]

Epochs = Annotated[int | None, typer.Option(help="The same as --set schedule.epochs=N.")]
BatchSize = Annotated[int | None, typer.Option(help="The same as --set data.batch_size=N: of all devices together.")]
LearningRate = Annotated[float | None, typer.Option("--lr", help="The same as --set optim.lr=X.")]
Workers = Annotated[int | None, typer.Option(help="The same as --set data.workers=N: processes that decode images.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what is in --out; start where there is nothing.")]


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="For example cifar.seresnet20; `senet recipes` lists all.")
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run's folder.")],
    data: DataDir = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    workers: Workers = None,
    seed: Annotated[int | None, typer.Option(help="The same as --set run.seed=N.")] = None,
    change: Changes = None,
    resume: Resume = False,
) -> None:
    """Train a network by a recipe."""
    from senet.train.loop import train
    from senet.train.processes import leave_together

    named = {"schedule.epochs": epochs, "data.batch_size": batch_size, "optim.lr": lr, "data.workers": workers}
    named["run.seed"] = seed
    changed = _changed(get_recipe(recipe), data, named, change)
    with _interruptible():
        summary = train(changed, out, resume=resume, watchers=[ConsoleWatch()])
    if leave_together():
        print_summary(summary)


def twins(
    recipes: Annotated[list[str], typer.Argument(metavar="RECIPE RECIPE...", help="The plain network first.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for runs, summary.json and report.html.")],
    data: DataDir = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds each.")] = 3,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    workers: Workers = None,
    change: Changes = None,
    resume: Resume = False,
) -> None:
    """Train networks with the same seeds, compare them and write the report."""
    from senet.study.twins import train_twins
    from senet.train.processes import leave_together

    named = {"schedule.epochs": epochs, "data.batch_size": batch_size, "optim.lr": lr, "data.workers": workers}
    changed = [_changed(get_recipe(recipe), data, named, change) for recipe in recipes]
    with _interruptible():
        comparison = train_twins(changed, out, seeds=seeds, resume=resume, watchers=[ConsoleWatch()])
    if leave_together():
        print_comparison(comparison)
        typer.echo(f"\nThe report: {out / 'report.html'}\nThe figures: {out / 'summary.json'}")


def _changed(recipe: BaseRecipe, data: Path | None, named: dict[str, Any], change: list[str] | None) -> BaseRecipe:
    named = {name: value for name, value in named.items() if value is not None}
    if data is not None:
        named["data.root"] = str(data.expanduser().resolve())  # the run must find it from anywhere
    others = parse_assignments(change or [])
    if twice := sorted(named.keys() & others.keys()):
        raise InputError(f"{twice[0]} is given twice, by an option of its own and by --set; give it once")
    return recipe.override({**named, **others})


@contextmanager
def _interruptible() -> Iterator[None]:
    """Says how to go on after an interruption."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("senet: interrupted; the same command with --resume goes on from the last checkpoint", err=True)
        raise typer.Exit(130) from None


COMMANDS: dict[Callable[..., None], str] = {
    train: "senet train cifar.seresnet20 --data DIR --out runs/seresnet20",
    twins: "senet twins fashion.resnet8 fashion.seresnet8 --seeds 3 --out runs/twins",
}
