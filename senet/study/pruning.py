"""A trained network pruned: half of the images choose, the other half judge."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from senet.analysis.pruning.judge import judge
from senet.analysis.pruning.prune import prune
from senet.analysis.pruning.steps import Metric, Pruning
from senet.errors import InputError
from senet.models.net import Net
from senet.models.weights.files import write_tensors
from senet.models.weights.preprocessing import Preprocessing
from senet.models.weights.pruned import PRUNED
from senet.options import to_plain
from senet.surgery.graph.modules import evaluating
from senet.surgery.report import report
from senet.train.apply import images_of
from senet.train.data import ImageSet, make_loader
from senet.train.data.subset import balanced
from senet.train.recipe import Data
from senet.train.trained import Trained

__all__ = ["Judged", "Pruned", "check_target", "prune_trained", "save_pruned"]


@dataclass(frozen=True)
class Judged:
    """Accuracy before and after pruning, on images that pruning did not see.

    Attributes:
        images: how many.
        metric: what accuracy is.
        before: accuracy in percent of the network as it was.
        after: of the pruned one.
        error: standard error of the difference, in percentage points, from the images that one of them gets right and
            the other does not.
    """

    images: int
    metric: Metric
    before: float
    after: float
    error: float

    def __str__(self) -> str:
        return (
            f"judged by the {self.images:,} others: {self.metric} {self.before:.2f} % -> {self.after:.2f} %, "
            f"a difference of {self.after - self.before:+.2f} (standard error {self.error:.2f})"
        )


@dataclass(frozen=True)
class Pruned:
    """A pruned network, what was done to it, and how good it is on images that pruning did not see."""

    model: Net
    report: Pruning
    judged: Judged


class _Batches:
    """Some images as a network takes them, any number of times."""

    def __init__(self, images: ImageSet, spec: Data, device: torch.device) -> None:
        self._loader = make_loader(images, spec, train=False, seed=0, device=device)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._loader.batches(0)


def prune_trained(
    trained: Trained,
    data: Path | None = None,
    *,
    max_drop: float = 0.1,
    metric: Metric = "top1",
    sites: Sequence[str] | None = None,
    limit: int | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Pruned:
    """Prunes a trained network by every second image of each class, and judges it by the others.

    Args:
        trained: the network, with how images are brought to it.
        data: images as for :func:`~senet.train.apply.images_of`; None: those held out in the training.
        max_drop: percentage points of accuracy that may be lost; this and the next two as for :func:`senet.prune`.
        metric: ``"top1"`` or ``"top5"``.
        sites: names or globs of the gates to try; None: all.
        limit: how many images of the data are taken, equally many of each class; None: all.
        progress: is told what is done, how much of it, and of how much.

    Raises:
        InputError: as :func:`~senet.train.apply.images_of` and :func:`senet.prune`; or fewer than two images.
    """
    images = images_of(trained, data, progress=lambda done, total: progress("decoding images", done, total))
    if limit is not None:
        images = images.take(balanced(images.labels, images.classes, limit))
    if len(images) < 2:
        raise InputError(f"{len(images)} image cannot both choose and judge; give two or more")
    order = images.labels.argsort(stable=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    choosing, judging = (_Batches(images.take(order[start::2].sort().values), trained.data, device) for start in (0, 1))
    model = trained.model.to(device)
    pruned = prune(model, choosing, max_drop=max_drop, metric=metric, sites=sites, progress=progress)
    assert isinstance(pruned, Net)
    progress("judging", 0, 1)
    with evaluating(model), evaluating(pruned):
        before, after = judge(model, judging, metric), judge(pruned, judging, metric)
    done = report(pruned)
    assert isinstance(done, Pruning)
    return Pruned(pruned, done, _compared(metric, before, after))


def _compared(metric: Metric, before: Tensor, after: Tensor) -> Judged:
    count, change = len(before), after.double() - before.double()
    error = 100 * float(change.std(correction=0)) / math.sqrt(count)
    return Judged(count, metric, 100 * float(before.double().mean()), 100 * float(after.double().mean()), error)


def check_target(path: Path) -> None:
    """Whether a pruned network can be written there.

    Raises:
        InputError: another suffix than ``.safetensors``, or no such folder.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"{path} ends in {path.suffix!r}; accepted: '.safetensors'")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no folder {path.parent}; make it")


def save_pruned(path: Path, trained: Trained, pruned: Pruned) -> None:
    """Writes a pruned network, so that it is loaded by its name, evaluated and used like any other.

    Args:
        path: ends in ``.safetensors``.
        trained: what was pruned.
        pruned: what came of it.

    Raises:
        InputError: as :func:`check_target`, or the file cannot be written.
    """
    check_target(path)
    info = {
        **trained.info,
        PRUNED: [*trained.info.get(PRUNED, []), *(s.site for s in pruned.report.steps if s.decision != "kept")],
        "pruning": {"report": pruned.report.to_dict(), "judged": to_plain(pruned.judged)},
    }
    if trained.recipe is None:  # which says so of a run
        info["preprocessing"] = {field.name: getattr(trained.data, field.name) for field in fields(Preprocessing)}
        info["classes"] = list(trained.classes) if trained.named else None
    write_tensors(path, pruned.model.state_dict(), info)
