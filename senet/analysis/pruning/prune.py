"""``prune``: gates that a network can do without become constants, which are folded away."""

from __future__ import annotations

import fnmatch
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from senet.analysis.pruning.costs import ROUNDS, cost_of, savings_of
from senet.analysis.pruning.judge import batches_of, device_of
from senet.analysis.pruning.steps import Metric, Pruning, Saving, Step
from senet.analysis.pruning.trial import Attempt, Trial, percent
from senet.errors import InputError, did_you_mean
from senet.measure import device_name, in_turn, ratio
from senet.surgery.gating.find import find_gates
from senet.surgery.gating.freeze import FrozenGate, frozen
from senet.surgery.graph.modules import evaluating, refuse
from senet.surgery.graph.run import copied
from senet.surgery.report import keep

__all__ = ["prune"]

_TIMED = 16  # images of the batch that is timed, at most


def prune(
    model: nn.Module,
    data: Iterable[tuple[Tensor, Tensor]],
    *,
    max_drop: float = 0.1,
    metric: Metric = "top1",
    sites: str | Sequence[str] | None = None,
    example: Sequence[Any] | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> nn.Module:
    """A copy of a network in which gates that hardly matter are constants, which are folded away.

    A gate is tried as its mean over the data: those first that spare most, by the sum of their shares of all gates'
    parameters and measured time. It stays a constant if the accuracy is then no more than ``max_drop`` below what it
    was at the start. Constants are folded by :func:`~senet.surgery.gating.freeze.freeze_gates`. What is left is an
    ordinary network. ``print(senet.report(pruned))`` says what was done and what it spares; the report is a
    :class:`~senet.analysis.pruning.steps.Pruning`.

    The data choose both the constants and the gates, so that the accuracy on them is a little too good. Give images
    that were not trained on, and judge the result by others still::

        half = len(images) // 2
        pruned = senet.prune(model, DataLoader(Subset(images, range(half)), 64))
        # the accuracy of `pruned` on Subset(images, range(half, len(images))) is the honest one

    Source: paper sec. 4, where the last stage's blocks of SE-ResNet-50, 62.5 % of all SE weights, are left out at a
    cost of less than 0.1 % of top-5, and sec. 7.2, which finds their gates to be nearly the same for all images.

    Differs from the paper: gates are not left out before training but held at their means after it.

    Args:
        model: a classifier of any package, (N, ...) -> (N, classes); it is left alone.
        data: batches (images, labels (N,)), to be gone through many times: a list or a DataLoader, without
            augmentation. Classes without images are not judged.
        max_drop: percentage points of accuracy that may be lost in all.
        metric: ``"top1"`` or ``"top5"``.
        sites: names or globs of the gates to try; None: all.
        example: what the model's forward takes, for runs without gradients; None: the first images of the data.
        progress: is told what is done, how much of it, and of how much.

    Returns:
        The copy, each module in the mode of the original.

    Raises:
        InputError: the model has no gate, is compiled, scripted, folded or being recorded, or gives anything but
            scores; the data can be gone through only once, are empty, or differ between passes; labels of no class;
            scores or gates that are not numbers; no such sites; a negative ``max_drop``; or none of the gates can be a
            constant.
    """
    _check(max_drop, metric)
    refuse(model, "prune", fused=True)
    first = next(batches_of(data, device_of(model)))[0]
    if example is None:
        example = (first[torch.arange(2) % len(first)],)
    chosen = _chosen([site.name for site in find_gates(model, example)], sites)
    trial = Trial(model, data, metric, example)
    with evaluating(model), torch.no_grad():
        progress("running the network", 0, 1)
        start, means = trial.start()
        progress("finding what the gates cost", 0, 1)
        without, gates, refused = _holdable(model, means, example)
        with evaluating(without):
            savings = savings_of(model, without, gates, first[:_TIMED])
        able = [site for site in chosen if site in savings]
        order = sorted(able, key=lambda site: -_worth(savings[site], savings.values()))
        tried = trial.greedy({site: means[site] for site in order}, start, max_drop, progress)
    progress("folding", 0, 1)
    kept = {attempt.site: means[attempt.site] for attempt in tried if attempt.kept}
    pruned, done = frozen(model, kept, example=example) if kept else (copied(model), [])
    with evaluating(model), evaluating(pruned), torch.no_grad():
        after = trial.agreeing(pruned, kept)
        totals = _totals(model, pruned, first[:_TIMED])
    became = {gate.site: gate for gate in done}
    steps = tuple(_step(attempt, became.get(attempt.site), savings[attempt.site], percent(start)) for attempt in tried)
    keep(
        pruned,
        Pruning(
            taken=[(step.site, step.became) for step in steps if step.decision == "folded"],
            left=[
                *((step.site, step.became) for step in steps if step.decision != "folded"),
                *((site, refused.get(site, "it is never used")) for site in chosen if site not in savings),
            ],
            metric=metric,
            max_drop=max_drop,
            images=len(after),
            before=percent(start),
            after=percent(after),
            gate_parameters=_parameters(model) - _parameters(without),
            steps=steps,
            **totals,
        ),
    )
    return pruned


def _check(max_drop: float, metric: str) -> None:
    if isinstance(max_drop, bool) or not isinstance(max_drop, int | float) or not 0 <= max_drop <= 100:
        raise InputError(f"max_drop is {max_drop!r}; accepted: percentage points, 0 to 100")
    if metric not in get_args(Metric):
        raise InputError(f"metric is {metric!r}; accepted: {', '.join(map(repr, get_args(Metric)))}")


def _chosen(names: Sequence[str], sites: str | Sequence[str] | None) -> list[str]:
    """The sites that some glob matches, in their own order."""
    globs = ["*"] if sites is None else [sites] if isinstance(sites, str) else list(sites)
    if not globs:
        raise InputError("sites is empty; give names or globs of the gates to try, or None for all")
    for glob in globs:
        if not fnmatch.filter(names, glob):
            raise InputError(f"no gate is called {glob!r}{did_you_mean(glob, names)}")
    return [name for name in names if any(fnmatch.fnmatchcase(name, glob) for glob in globs)]


def _holdable(
    model: nn.Module, means: Mapping[str, Tensor], example: Sequence[Any]
) -> tuple[nn.Module, list[FrozenGate], dict[str, str]]:
    """A copy in which all gates are constants that can be, what became of them, and why the others cannot be."""
    refused: dict[str, str] = {}
    try:
        return *frozen(model, means, example=example), refused
    except InputError as error:  # of at least one; each is asked
        together = error
        for site, mean in means.items():
            try:
                frozen(model, {site: mean}, example=example)
            except InputError as reason:
                refused[site] = str(reason)
    able = {site: mean for site, mean in means.items() if site not in refused}
    if not able:
        raise InputError(f"no gate can be a constant ({next(iter(refused.values()), together)})") from together
    if not refused:
        raise InputError(f"each gate can be a constant, but not all of them together: {together}") from together
    return *frozen(model, able, example=example), refused


def _worth(saving: Saving, all_of_them: Collection[Saving]) -> float:
    """Returns a gate's shares of all gates' parameters and time, added up."""
    shares = []
    for part in ("parameters", "seconds"):
        total = sum(max(getattr(s, part), 0) for s in all_of_them)
        shares.append(max(getattr(saving, part), 0) / total if total else 0.0)
    return sum(shares)


def _step(attempt: Attempt, gate: FrozenGate | None, saving: Saving, start: float) -> Step:
    before, after = attempt.before, attempt.after
    if gate is None:
        return Step(attempt.site, "kept", f"{start - after:.2f} points would be lost in all", before, after, saving)
    return Step(attempt.site, "folded" if gate.folded else "scaled", gate.became, before, after, saving)


def _totals(model: nn.Module, pruned: nn.Module, images: Tensor) -> dict[str, Any]:
    """Returns the costs of both networks, as fields of a :class:`Pruning`."""
    before, after = cost_of(model, images), cost_of(pruned, images)
    times = in_turn(
        {"before": lambda: model(images), "after": lambda: pruned(images)}, rounds=ROUNDS, device=images.device
    )
    return {
        "parameters": (before.parameters, after.parameters),
        "bytes": (before.bytes(), after.bytes()),
        "seconds": (statistics.median(times["before"]), statistics.median(times["after"])),
        "ratio": ratio(times["after"], times["before"]),
        "batch": len(images),
        "machine": device_name(images.device),
    }


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
