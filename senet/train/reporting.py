"""Complete runs brought together for the report: their results, and what their networks do with held-out images."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from senet.analysis.compare import Comparison, compare
from senet.analysis.gates import GateStatistics, measure_gates
from senet.analysis.report import Example, Report, render
from senet.blocks import Recalibrate
from senet.options import to_plain
from senet.train.data import ImageSet, load_data, make_loader, read_image
from senet.train.rundir import Trained, read_metrics, read_run, read_summary

__all__ = ["write_report"]

GATE_IMAGES = 10_000  # at most so many held-out images are looked at for the gates
EXAMPLES = 9  # images shown, at least half of them such as some network gets wrong, where there are


def write_report(runs: Sequence[Path], out: Path) -> None:
    """Writes the page about complete runs; of each arm, its first run's network is run on held-out images.

    Raises:
        InputError: a run is not complete, the runs cannot be compared, their images are gone, or ``out`` cannot be
            written.
    """
    summaries = [read_summary(run) for run in runs]
    comparison = compare(summaries)
    firsts = {arm.runs[0]: read_run(Path(arm.runs[0])) for arm in comparison.arms}
    recipe = next(iter(firsts.values())).recipe
    held_out = load_data(recipe.data)[1]
    report = Report(
        title=_title(comparison, recipe.data.source),
        comparison=comparison,
        classes=held_out.classes,
        subtitle=_subtitle(summaries[0]),
        histories={summary["run"]: read_metrics(Path(summary["run"])) for summary in summaries},
        confusions={summary["run"]: torch.tensor(summary["confusion"]) for summary in summaries},
        examples=_examples(firsts, held_out),
        gates={run: _gates(trained, held_out) for run, trained in firsts.items() if _has_gates(trained)},
        recipe_diff=_difference(firsts),
        versions={**summaries[0]["versions"], "device": summaries[0]["device"]},
    )
    render(report, out)


def _subtitle(summary: Mapping[str, Any]) -> str:
    return (
        f"{summary['dataset']}, {len(summary['classes'])} classes; trained on {summary['train_images']:,} images, "
        f"judged on {summary['val_images']:,} others"
    )


def _title(comparison: Comparison, source: str) -> str:
    return f"{' and '.join(arm.name for arm in comparison.arms[:3])} on {source}"


def _has_gates(trained: Trained) -> bool:
    return any(isinstance(module, Recalibrate) for module in trained.model.modules())


def _gates(trained: Trained, held_out: ImageSet) -> GateStatistics:
    images = held_out.take(_spread(len(held_out), GATE_IMAGES))
    return measure_gates(trained.model, _batches(trained, images), held_out.classes)


def _examples(firsts: dict[str, Trained], held_out: ImageSet) -> list[Example]:
    """Some images that all networks get right, and some that at least one gets wrong."""
    images = held_out.take(_spread(len(held_out), 500))
    probabilities = {run: _probabilities(trained, images) for run, trained in firsts.items()}
    right = torch.stack([p.argmax(1) == images.labels for p in probabilities.values()]).all(0)
    easy, hard = right.nonzero().flatten().tolist(), (~right).nonzero().flatten().tolist()
    wrong = _pick(hard, (EXAMPLES + 1) // 2)
    chosen = sorted(wrong + _pick(easy, EXAMPLES - len(wrong)))
    return [_example(images, index, probabilities) for index in chosen]


def _pick(indices: list[int], most: int) -> list[int]:
    """At most so many, spread over all."""
    return [indices[i] for i in _spread(len(indices), most).tolist()]


def _spread(total: int, most: int) -> Tensor:
    """Indices of at most ``most`` of ``total``, evenly spread: a folder's images come class by class."""
    count = min(total, most)
    return torch.arange(count) * total // max(count, 1)


def _batches(trained: Trained, images: ImageSet) -> Any:
    return make_loader(images, trained.recipe.data, train=False, seed=0, device=torch.device("cpu")).batches(0)


@torch.inference_mode()
def _probabilities(trained: Trained, images: ImageSet) -> Tensor:
    return torch.cat([trained.model(batch).softmax(1) for batch, _ in _batches(trained, images)])


def _example(images: ImageSet, index: int, probabilities: dict[str, Tensor]) -> Example:
    if images.images is not None:
        picture = images.images[index]
    else:
        assert images.paths is not None
        picture = read_image(images.paths[index], 3)
    predictions = {}
    for run, table in probabilities.items():
        best = table[index].topk(min(3, len(images.classes)))
        predictions[run] = [(images.classes[i], p) for p, i in zip(*(t.tolist() for t in best), strict=True)]
    picture = picture[0] if len(picture) == 1 else picture.permute(1, 2, 0)
    return Example(picture, images.classes[images.labels[index]], predictions)


def _difference(firsts: dict[str, Trained]) -> str:
    """How the second arm's recipe differs from the first's, as a unified diff."""
    recipes = [json.dumps(to_plain(trained.recipe), indent=2).splitlines() for trained in firsts.values()]
    if len(recipes) < 2:
        return ""
    names = [trained.recipe.name for trained in firsts.values()]
    return "\n".join(difflib.unified_diff(recipes[0], recipes[1], names[0], names[1], n=1, lineterm=""))
