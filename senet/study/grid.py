"""Many paired runs: a grid of networks and seeds, several at a time, never one twice."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from senet.errors import InputError
from senet.measure import source_commit
from senet.options import to_plain
from senet.study.ledger import Ledger, deciding
from senet.study.workers import training_processes
from senet.train.data import fingerprint_of
from senet.train.recipe import Data, Recipe
from senet.train.rundir import check_folder, read_metrics, read_summary

__all__ = ["CellsFailedError", "GridWatch", "result_line", "run_grid"]

_LOOK = 0.5  # seconds between looks at what the runs have written


class CellsFailedError(InputError):
    """Some cells could not be trained; ``lines`` holds the results of the others."""

    def __init__(self, message: str, lines: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.lines = lines


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
        CellsFailedError: cells that cannot be trained, after all others are done.
        InputError: another process works in ``out``; the images are not there; or a process was killed.
    """
    watch = watch or GridWatch()
    out.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(out / ".lock").acquire(timeout=0)
    except Timeout:
        raise InputError(f"another process trains in {out}; wait for it, or name another folder with --out") from None
    with lock:
        ledger = Ledger(out / "results.jsonl")
        images = {data: _images(data) for data in {recipe.data for recipe in recipes}}
        todo: dict[Path, Recipe] = {}
        done = 0
        for name, recipe in {_name(recipe, images[recipe.data]): recipe for recipe in recipes}.items():
            if ledger.find(recipe, images[recipe.data]):
                done += 1
            else:
                check_folder(out / "cells" / name, recipe, resume=True)
                todo[out / "cells" / name] = recipe
        why = _train_all(todo, ledger, jobs=jobs, threads=threads, watch=watch, done=done)
        found = [ledger.find(recipe, images[recipe.data]) for recipe in recipes]
    lines = [line for line in found if line is not None]
    if why:
        first = next(iter(why))
        raise CellsFailedError(
            f"{len(why)} of {len(todo)} cells could not be trained, the others have their results in {ledger.path}; "
            f"the first is {first}: {why[first]}",
            lines,
        )
    return lines


def _train_all(
    todo: Mapping[Path, Recipe], ledger: Ledger, *, jobs: int, threads: int, watch: GridWatch, done: int
) -> dict[str, str]:
    """Trains, and gives the names of those that could not be trained, with what was wrong."""
    source = {"threads": threads, "commit": source_commit()}
    why: dict[str, str] = {}
    watch.start({run.name: recipe.schedule.epochs for run, recipe in todo.items()}, done)
    try:
        with training_processes(min(jobs, len(todo)) or 1, threads) as train:
            for run, error in _finished({train(recipe, run): run for run, recipe in todo.items()}, watch):
                if error is None:
                    line = {**result_line(run, todo[run]), **source}
                    ledger.add(line)
                    watch.finished(run.name, line)
                else:
                    why[run.name] = str(error)
                    watch.failed(run.name, str(error))
    except BrokenProcessPool:
        raise InputError(
            "a process was killed at its work, perhaps for memory; the same again goes on, with fewer --jobs perhaps"
        ) from None
    finally:
        watch.close()
    return why


def _finished(runs: Mapping[Future[None], Path], watch: GridWatch) -> Iterator[tuple[Path, Exception | None]]:
    """Each run when it is done, and what was wrong with it, if anything; tells of epochs in between."""
    told = dict.fromkeys(runs.values(), 0)
    waiting = set(runs)
    while waiting:
        done, waiting = wait(waiting, timeout=_LOOK, return_when=FIRST_COMPLETED)
        for future, run in runs.items():
            if future in done or (future in waiting and future.running()):
                news = read_metrics(run)[told[run] :]
                told[run] += len(news)
                for metrics in news:
                    watch.epoch(run.name, metrics)
        for future in done:
            try:
                future.result()
            except torch.OutOfMemoryError as error:
                yield runs[future], InputError(f"{str(error).splitlines()[0]}; the same again, with fewer --jobs")
            except (InputError, OSError) as error:
                yield runs[future], error
            else:
                yield runs[future], None


def result_line(run: Path, recipe: Recipe) -> dict[str, Any]:
    """Returns the ledger's record of a complete run; nothing in it says where images or runs lie."""
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


def _name(recipe: Recipe, images: Mapping[str, str]) -> str:
    """A name for a cell that tells it from all others: the recipe's, the seed, and digits of all that decides."""
    digits = hashlib.sha256(json.dumps([deciding(recipe), images], sort_keys=True).encode()).hexdigest()[:8]
    return f"{re.sub(r'[^a-z0-9]+', '-', recipe.name.lower()).strip('-')}-seed{recipe.run.seed}-{digits}"


def _images(data: Data) -> dict[str, str]:
    return {"train": fingerprint_of(data, "train"), "val": fingerprint_of(data, "val")}
