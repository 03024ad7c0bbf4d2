"""Runs that differ in nothing but their seed, gathered into arms."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from senet.analysis.metrics import Metric, metric_of
from senet.errors import InputError

__all__ = ["Arm", "Spread", "group"]

_NEEDED = (
    "run",
    "recipe",
    "model",
    "parameters",
    "seed",
    "epochs",
    "seconds",
    "dataset",
    "train_images",
    "val_images",
)
# What makes two runs two samples of one thing: these agree, only the seed differs.
_ARM = ("model", "epochs", "settings", "train_images", "images")


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1 in the denominator; None for n = 1) of one number over seeds."""

    n: int
    mean: float
    sd: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value; a value that is not finite (a loss that diverged) passes through."""
        n, mean = len(values), statistics.fmean(values)
        squares = math.fsum((value - mean) ** 2 for value in values)
        return cls(n, mean, math.sqrt(squares / (n - 1)) if n > 1 else None)


@dataclass(frozen=True)
class Arm:
    """The runs that differ in nothing but their seed. Accuracies are percent, seconds those of the training."""

    name: str
    model: str
    recipe: str
    epochs: int
    parameters: int
    dataset: str
    settings: Mapping[str, Any]  # what decided the result besides network and seed, names and values
    seeds: tuple[int, ...]
    runs: tuple[str, ...]  # in the order of seeds, as are the accuracies
    accuracies: tuple[float, ...]  # of the metric
    durations: tuple[float, ...]  # seconds
    metric: Metric
    score: Spread  # the metric
    second: Spread | None  # the metric's second
    val_loss: Spread | None
    seconds: Spread


def group(summaries: Iterable[Mapping[str, Any]]) -> tuple[Arm, ...]:
    """Groups the summaries of runs into arms, in the order in which each arm first appears.

    Args:
        summaries: as :func:`senet.analysis.compare.compare` takes them.

    Raises:
        InputError: no run, a key missing, results that are no percentages, different held-out images or classes, or
            one seed twice in an arm (the same thing twice is no evidence).
    """
    runs = [_checked(summary) for summary in summaries]
    if not runs:
        raise InputError("there is no run to compare; give the folder of at least one")
    _same(runs, "metrics", metric_of)
    _same(runs, "lists of classes", lambda run: run.get("classes"))
    _same(runs, "held-out images", lambda run: (run["val_images"], run.get("images", {}).get("val")))
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        key = json.dumps([run.get(name) for name in _ARM], sort_keys=True)
        groups.setdefault(key, []).append(run)
    names = _names([members[0] for members in groups.values()])
    return tuple(_arm(name, members) for name, members in zip(names, groups.values(), strict=True))


def _checked(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    metric = metric_of(summary)
    own = (metric.key, metric.second) if metric.key == "ap" else (metric.key, metric.second, "val_loss")
    missing = [name for name in (*_NEEDED, *own) if name not in summary]
    if missing:
        raise InputError(
            f"the summary of run {summary.get('run', '?')!r} lacks {', '.join(missing)}; evaluate the run again"
        )
    for name in (metric.key, metric.second):
        value = summary[name]
        if not (name == metric.second and value is None) and not 0 <= value <= 100:
            raise InputError(f"run {summary['run']!r}: {name} is {value}; accepted: percent, from 0 to 100")
    for name in ("parameters", "seconds"):
        if not summary[name] > 0:
            raise InputError(f"run {summary['run']!r}: {name} is {summary[name]}; accepted: numbers above 0")
    return summary


def _same(runs: Sequence[Mapping[str, Any]], words: str, of: Callable[[Mapping[str, Any]], Any]) -> None:
    first = runs[0]
    for run in runs[1:]:
        if of(run) != of(first):
            raise InputError(
                f"runs {first['run']!r} (on {first['dataset']}) and {run['run']!r} (on {run['dataset']}) "
                f"have different {words}; compare runs on the same data"
            )


def _names(firsts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The label that a run was given; else the model's name, with what differs between the arms of that model."""
    names = []
    for run in firsts:
        if "label" in run:
            names.append(str(run["label"]))
            continue
        own = _settings(run)
        others = [_settings(other) for other in firsts if other["model"] == run["model"]]
        keys = {key for settings in (own, *others) for key in settings}
        differing = sorted(key for key in keys if any(other.get(key) != own.get(key) for other in others))
        parts = [f"{key}={own[key]}" for key in differing if key in own]
        names.append(run["model"] + (f" ({', '.join(parts)})" if parts else ""))
    return names


def _settings(run: Mapping[str, Any]) -> dict[str, Any]:
    own = {"epochs": run["epochs"], "train_images": run["train_images"], **run.get("settings", {})}
    return own | ({"train_fingerprint": run["images"]["train"]} if "train" in run.get("images", {}) else {})


def _arm(name: str, runs: Sequence[Mapping[str, Any]]) -> Arm:
    by_seed: dict[int, Mapping[str, Any]] = {}
    for run in runs:
        twin = by_seed.setdefault(run["seed"], run)
        if twin is not run:
            raise InputError(
                f"runs {twin['run']!r} and {run['run']!r} are both seed {run['seed']} of {name}; a seed repeated "
                "is no new evidence, leave one out"
            )
    ordered = [by_seed[seed] for seed in sorted(by_seed)]
    first = ordered[0]
    metric = metric_of(first)
    scores = [run[metric.key] for run in ordered]
    second = [run[metric.second] for run in ordered if run[metric.second] is not None]
    losses = [run["val_loss"] for run in ordered if run.get("val_loss") is not None]
    return Arm(
        name=name,
        model=first["model"],
        recipe=first["recipe"],
        epochs=first["epochs"],
        parameters=first["parameters"],
        dataset=first["dataset"],
        settings=_settings(first),
        seeds=tuple(sorted(by_seed)),
        runs=tuple(str(run["run"]) for run in ordered),
        accuracies=tuple(scores),
        durations=tuple(run["seconds"] for run in ordered),
        metric=metric,
        score=Spread.of(scores),
        second=Spread.of(second) if len(second) == len(ordered) else None,
        val_loss=Spread.of(losses) if len(losses) == len(ordered) else None,
        seconds=Spread.of([run["seconds"] for run in ordered]),
    )
