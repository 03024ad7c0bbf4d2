"""Complete runs brought together for the report: their results, and what their networks do with held-out images."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from senet.analysis.compare import compare
from senet.analysis.gates.measure import GateStatistics, measure_gates
from senet.analysis.report import Example, Report, render
from senet.blocks import Recalibrate
from senet.options import to_plain
from senet.train.apply import held_out
from senet.train.data import ImageSet, make_loader, read_image
from senet.train.data.preprocess import fit
from senet.train.recipe import BaseRecipe
from senet.train.rundir import read_metrics, read_summary
from senet.train.tasks import load_recipe
from senet.train.trained import Trained, read_trained

__all__ = ["write_report"]

GATE_IMAGES = 10_000  # at most so many held-out images are looked at for the gates
EXAMPLES = 9  # images shown, at least half of them such as some network gets wrong, where there are


@dataclass(frozen=True)
class Shown:
    """The network of an arm that the page shows, and the held-out images as it sees them."""

    trained: Trained
    images: ImageSet

    def batches(self, indices: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Some of the images, as the network takes them."""
        chosen = self.images.take(indices)
        loader = make_loader(chosen, self.trained.data, train=False, seed=0, device=torch.device("cpu"))
        return loader.batches(0)


def write_report(
    runs: Sequence[Path], out: Path, *, labels: Sequence[str] | None = None, epochs: Sequence[int] | None = None
) -> None:
    """Writes the page about complete runs; of each arm, its first run's network is run on held-out images.

    Args:
        runs: their folders.
        out: the file.
        labels: what each run's arm is called; None: by its network, and what tells it from the others.
        epochs: those of the table by epoch; None: at most five, evenly spread.

    Raises:
        InputError: a run is not complete, the runs cannot be compared, their images are gone, no run has one of the
            epochs, or ``out`` cannot be written.
    """
    summaries = [read_summary(run) for run in runs]
    if labels is not None:
        summaries = [{**summary, "label": label} for summary, label in zip(summaries, labels, strict=True)]
    comparison = compare(summaries)
    firsts = {arm.runs[0]: Path(arm.runs[0]) for arm in comparison.arms}
    own = _of_detectors if comparison.arms[0].metric.key == "ap" else _of_classifiers
    report = Report(
        title=" and ".join(arm.name for arm in comparison.arms[:3]),
        subtitle=_subtitle(summaries),
        comparison=comparison,
        classes=tuple(summaries[0]["classes"]),
        histories={summary["run"]: read_metrics(Path(summary["run"])) for summary in summaries},
        epochs=epochs,
        recipe_diff=_difference([load_recipe(run / "recipe.json") for run in firsts.values()]),
        versions={**summaries[0]["versions"], "device": summaries[0]["device"]},
        **own(summaries, firsts),
    )
    render(report, out)


def _of_classifiers(summaries: Sequence[Mapping[str, Any]], firsts: Mapping[str, Path]) -> dict[str, Any]:
    """Returns the parts of the page that only classifiers have; networks are those of the first run of each arm."""
    shown = {}
    for run, folder in firsts.items():
        trained = read_trained(folder)
        shown[run] = Shown(trained, held_out(trained))
    return {
        "confusions": {summary["run"]: torch.tensor(summary["confusion"]) for summary in summaries},
        "examples": _examples(shown),
        "gates": {run: _gates(one) for run, one in shown.items() if _has_gates(one)},
    }


def _of_detectors(summaries: Sequence[Mapping[str, Any]], firsts: Mapping[str, Path]) -> dict[str, Any]:
    """Returns the parts of the page that only detectors have."""
    from senet.study.detections import FALSE, FOUND, MISSED, scenes

    return {
        "precisions": {summary["run"]: summary["precision"] for summary in summaries},
        "average_precisions": {summary["run"]: summary["ap_by_iou"] for summary in summaries},
        "scenes": scenes(firsts),
        "scene_colours": (FOUND, MISSED, FALSE),
    }


def _subtitle(summaries: Sequence[Mapping[str, Any]]) -> str:
    first, trained_on = summaries[0], {summary["train_images"] for summary in summaries}
    trained = f"trained on {first['train_images']:,} images, " if len(trained_on) == 1 else ""
    data = f"{first['dataset']}, {len(first['classes'])} classes"
    return f"{data}; {trained}judged on {first['val_images']:,} held out"


def _has_gates(one: Shown) -> bool:
    return any(isinstance(module, Recalibrate) for module in one.trained.model.modules())


def _gates(one: Shown) -> GateStatistics:
    indices = _spread(len(one.images), GATE_IMAGES)
    return measure_gates(one.trained.model, one.batches(indices), one.images.classes)


def _examples(shown: Mapping[str, Shown]) -> list[Example]:
    """Some images that all networks get right, and some that at least one gets wrong."""
    first = next(iter(shown.values()))
    indices = _spread(len(first.images), 500)
    labels = first.images.labels[indices]
    probabilities = {run: _probabilities(one, indices) for run, one in shown.items()}
    right = torch.stack([p.argmax(1) == labels for p in probabilities.values()]).all(0)
    easy, hard = right.nonzero().flatten().tolist(), (~right).nonzero().flatten().tolist()
    wrong = _pick(hard, (EXAMPLES + 1) // 2)
    chosen = sorted(wrong + _pick(easy, EXAMPLES - len(wrong)))
    return [
        Example(
            _picture(first, int(indices[at])),
            first.images.classes[labels[at]],
            {run: _best(table[at], first.images.classes) for run, table in probabilities.items()},
        )
        for at in chosen
    ]


def _pick(indices: list[int], most: int) -> list[int]:
    """At most so many, spread over all."""
    return [indices[i] for i in _spread(len(indices), most).tolist()]


def _spread(total: int, most: int) -> Tensor:
    """Indices of at most ``most`` of ``total``, evenly spread: a folder's images come class by class."""
    count = min(total, most)
    return torch.arange(count) * total // max(count, 1)


@torch.inference_mode()
def _probabilities(one: Shown, indices: Tensor) -> Tensor:
    return torch.cat([one.trained.model(batch).softmax(1) for batch, _ in one.batches(indices)])


def _picture(one: Shown, index: int) -> Tensor:
    """An image as the network sees it, but for normalisation: (H, W) or (H, W, 3) uint8."""
    spec = one.trained.data
    if one.images.images is not None:
        picture = fit(one.images.images[index], spec)
    else:
        assert one.images.paths is not None
        picture = fit(read_image(one.images.paths[index], spec.channels), spec)
    return picture[0] if len(picture) == 1 else picture.permute(1, 2, 0)


def _best(probabilities: Tensor, classes: Sequence[str]) -> list[tuple[str, float]]:
    best = probabilities.topk(min(3, len(classes)))
    return [(classes[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


def _difference(recipes: Sequence[BaseRecipe]) -> str:
    """Returns the difference between the first two arms' recipes, as a unified diff."""
    if len(recipes) < 2:
        return ""
    first, second = (json.dumps(to_plain(recipe), indent=2).splitlines() for recipe in recipes[:2])
    before, after = (recipe.name for recipe in recipes[:2])
    return "\n".join(difflib.unified_diff(first, second, before, after, n=1, lineterm=""))
