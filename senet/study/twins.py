"""The same seeds for several networks, so that what differs between them is the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState

from senet.analysis.compare import Comparison, compare
from senet.analysis.report import require_plotting
from senet.errors import InputError
from senet.study.reporting import write_report
from senet.train.loop import train
from senet.train.recipe import BaseRecipe
from senet.train.rundir import check_folder, read_summary, write_json
from senet.train.watch import Watch

__all__ = ["train_twins"]


def train_twins(
    recipes: Sequence[BaseRecipe], out: Path, *, seeds: int, resume: bool = False, watchers: Sequence[Watch] = ()
) -> Comparison:
    """Trains each recipe with seeds 0 to ``seeds - 1``, seed by seed, compares them and writes the report.

    Args:
        recipes: at least two, of different names; the first is what the others are compared with.
        out: gets a run's folder for each recipe and seed, ``summary.json`` (the comparison) and ``report.html``.
        seeds: how many.
        resume: go on with what is in ``out``.
        watchers: are told what happens.

    Raises:
        InputError: fewer than two recipes, one of them twice, or on different images; a folder that holds another run;
            no package to plot with; or whatever :func:`senet.train.loop.train` refuses.
    """
    names = [recipe.name for recipe in recipes]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise InputError(f"the recipes are {', '.join(names)}; give at least two, each once")
    data = [recipe.data for recipe in recipes]
    images = {(spec.source, spec.root, spec.val_fraction, spec.limit) for spec in data}
    if len(images) > 1:
        raise InputError(f"the recipes {', '.join(names)} train on different images; compare networks on the same ones")
    require_plotting()  # not to be found missing after hours of training
    seeded = [recipe.override({"run.seed": seed}) for seed in range(seeds) for recipe in recipes]
    runs = {out / f"{recipe.name}-seed{recipe.run.seed}": recipe for recipe in seeded}
    for run, recipe in runs.items():
        check_folder(run, recipe, resume=resume)
    for run, recipe in runs.items():
        train(recipe, run, resume=resume, watchers=watchers)
    comparison = compare([read_summary(run) for run in runs])
    if PartialState().is_main_process:
        write_json(out / "summary.json", comparison.to_dict())
        write_report(list(runs), out / "report.html")
    return comparison
