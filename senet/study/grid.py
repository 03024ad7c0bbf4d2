"""Many paired runs: a grid of networks and seeds, several at a time, never one twice."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from senet.errors import InputError
from senet.measure import source_commit
from senet.options import flatten, to_plain
from senet.study.ledger import Ledger, same_training
from senet.study.workers import training_processes
from senet.train.data import fingerprint_of
from senet.train.recipe import Data, Recipe
from senet.train.rundir import RESUMABLE, check_folder, read_metrics, read_summary

__all__ = ["GridWatch", "cell_name", "result_line", "run_grid"]


class GridWatch:
    """Watches a grid without a word; the base of those who speak."""

    def start(self, cells: Mapping[str, int], done: int) -> None:
        """Cells still to be trained, and the epochs of each; ``done`` others have their result."""

    def epoch(self, name: str, metrics: Mapping[str, Any]) -> None:
        """A cell has done an epoch."""

    def finished(self, name: str, line: Mapping[str, Any]) -> None:
        """A cell has its result."""

    def failed(self, name: str, why: str) -> None:
        """A cell cannot be trained; the others go on."""

    def close(self) -> None:
        """The grid is done, or was interrupted."""


def run_grid(
    recipes: Sequence[Recipe], out: Path, *, jobs: int = 1, threads: int = 1, watch: GridWatch | None = None
) -> list[dict[str, Any]]:
    """Trains all recipes that have no result in ``out`` yet, and gives the results of all, in their order.

    Arms of one seed see the same images in the same order and start from the same shared weights
    (:mod:`senet.train.start`). Whenever it is killed, the same call goes on; on a CPU a cell has the same numbers
    however often it was killed, and however many run beside it, while ``threads`` is the same.

    Args:
        recipes: one for each cell, the seed in it; a cell given twice is trained once.
        out: gets ``results.jsonl`` (:class:`senet.study.ledger.Ledger`) and ``cells/NAME``, a run's folder each.
        jobs: how many are trained at a time, each by a process of its own.
        threads: of each process on the CPU.
        watch: is told what happens.

    Raises:
        InputError: another process works in ``out``; the images are not there; or cells that cannot be trained, after
            all others are done.
    """
    watch = watch or GridWatch()
    lock = FileLock(out / ".lock")
    out.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another process trains in {out}; wait for it, or name another folder with --out") from None
    with lock:
        ledger = Ledger(out / "results.jsonl")
        images = {data: _images(data) for data in {recipe.data for recipe in recipes}}
        todo: list[Recipe] = []
        for recipe in recipes:
            if not ledger.find(recipe, images[recipe.data]) and not any(same_training(recipe, r) for r in todo):
                check_folder(_run(recipe, out), recipe, resume=True)
                todo.append(recipe)
        _train_all(todo, ledger, out, jobs=jobs, threads=threads, watch=watch, done=len(recipes) - len(todo))
        found = [ledger.find(recipe, images[recipe.data]) for recipe in recipes]
    return [line for line in found if line is not None]


def _train_all(
    todo: Sequence[Recipe], ledger: Ledger, out: Path, *, jobs: int, threads: int, watch: GridWatch, done: int
) -> None:
    runs = {cell_name(recipe): recipe for recipe in todo}
    source = {"threads": threads, "commit": source_commit()}
    why: dict[str, str] = {}
    watch.start({name: recipe.schedule.epochs for name, recipe in runs.items()}, done)
    try:
        with training_processes(min(jobs, len(todo)) or 1, threads, watch.epoch) as train:
            futures: dict[Future[None], str] = {
                train(recipe, out / "cells" / name): name for name, recipe in runs.items()
            }
            for future in as_completed(futures):
                name = futures[future]
                try:
                    future.result()
                except InputError as error:
                    why[name] = str(error)
                    watch.failed(name, why[name])
                    continue
                line = {**result_line(out / "cells" / name, runs[name]), **source}
                ledger.add(line)
                watch.finished(name, line)
    finally:
        watch.close()
    if why:
        first = next(iter(why))
        raise InputError(
            f"{len(why)} of {len(todo)} cells could not be trained, the others have their results in {ledger.path}; "
            f"the first is {first}: {why[first]}"
        )


def result_line(run: Path, recipe: Recipe) -> dict[str, Any]:
    """What the ledger keeps of a complete run: nothing in it says where images or runs lie."""
    summary = read_summary(run)
    del summary["confusion"]
    root = recipe.data.root
    told = {
        "run": run.name,
        "dataset": recipe.data.source if root is None else Path(root).name,
        "plain": to_plain(replace(recipe, data=replace(recipe.data, root=None))),
        "history": read_metrics(run),
    }
    return {**summary, **told}


def cell_name(recipe: Recipe) -> str:
    """A name for a cell that tells it from all others: the recipe's, the seed, and digits of all that decides."""
    plain = flatten(to_plain(recipe))
    deciding = {name: value for name, value in plain.items() if name not in RESUMABLE}
    digits = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:8]
    return f"{re.sub(r'[^a-z0-9]+', '-', recipe.name.lower()).strip('-')}-seed{recipe.run.seed}-{digits}"


def _run(recipe: Recipe, out: Path) -> Path:
    return out / "cells" / cell_name(recipe)


def _images(data: Data) -> dict[str, str]:
    return {"train": fingerprint_of(data, "train"), "val": fingerprint_of(data, "val")}
