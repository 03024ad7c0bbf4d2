"""Data of the report's page, prepared so that the template only has to lay it out."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from senet.analysis import plots, wording
from senet.analysis.arms import Arm
from senet.analysis.compare import Difference
from senet.analysis.content import Example, Report, Scene
from senet.analysis.epochs import epoch_table
from senet.analysis.gates import plots as gate_plots
from senet.analysis.gates.measure import DEAD, SATURATED, STILL, GateStatistics, Site
from senet.analysis.html import png
from senet.analysis.svg import SERIES

__all__ = ["view"]

_PANELS = 12  # blocks of a network whose gates are drawn one by one


def view(report: Report) -> dict[str, Any]:
    """The template's variables."""
    comparison = report.comparison
    return {
        "report": report,
        "comparison": comparison,
        "metric": comparison.arms[0].metric,
        "notes": [
            f"{_interval(difference)}{_cost(arm, comparison.arms[0])}"
            for difference, arm in zip(comparison.differences, comparison.arms[1:], strict=True)
        ],
        "accuracies": plots.accuracies(comparison.arms),
        "curves": list(_curves(report)),
        "epochs": epoch_table(comparison.arms, report.histories, report.epochs),
        "confusions": list(_confusions(report)),
        "examples": [_example(report, example) for example in report.examples],
        "example_seeds": _seeds(report, {run for example in report.examples for run in example.predictions}),
        "precisions": list(_precisions(report)),
        "average_precisions": _average_precisions(report),
        "scene_words": list(
            zip(
                report.scene_colours or (),
                ("found", "missed: an object without a detection", "false: a detection without an object"),
                strict=False,
            )
        ),
        "scenes": [_scene(report, scene) for scene in report.scenes],
        "gates": list(_gates(report)),
        "constants": {"still": STILL, "dead": DEAD, "saturated": SATURATED},
    }


def _interval(difference: Difference) -> str:
    if difference.low is None or difference.high is None:
        return ""
    low, high = wording.signed(difference.low), wording.signed(difference.high)
    return f"The 95 % confidence interval of the mean difference is {low} to {high} points. "


def _cost(arm: Arm, baseline: Arm) -> str:
    more = arm.parameters - baseline.parameters
    share = 100 * abs(more) / baseline.parameters
    if not more:
        return f"{arm.name} has as many parameters as {baseline.name}."
    return f"{arm.name} has {wording.count(abs(more))} {'fewer' if more < 0 else 'more'} parameters ({share:.1f} %)."


def _curves(report: Report) -> Iterator[str]:
    measures: list[tuple[str, Callable[[Mapping[str, Any]], float]]] = [
        ("validation AP, %", lambda epoch: epoch["val_ap"] or 0.0)
        if report.comparison.arms[0].metric.key == "ap"
        else ("validation error, %", lambda epoch: 100 - epoch["val_top1"]),
        ("training loss", lambda epoch: epoch["train_loss"]),
    ]
    histories = {
        arm.name: [report.histories[run] for run in arm.runs if report.histories.get(run)]
        for arm in report.comparison.arms
    }
    if not any(histories.values()):
        return
    for what, measure in measures:
        values = {name: [[measure(epoch) for epoch in run] for run in runs] for name, runs in histories.items()}
        yield plots.curves(values, what=what)


def _confusions(report: Report) -> Iterator[dict[str, Any]]:
    for arm in report.comparison.arms:
        matrices = [report.confusions[run] for run in arm.runs if run in report.confusions]
        if matrices:
            matrix = torch.stack(matrices).sum(0)
            yield {
                "svg": plots.confusion(matrix, report.classes, title=arm.name),
                "arm": arm.name,
                "seeds": [seed for seed, run in zip(arm.seeds, arm.runs, strict=True) if run in report.confusions],
                "mistakes": list(_mistakes(matrix, report.classes)),
            }


def _mistakes(matrix: Tensor, classes: Sequence[str]) -> Iterator[tuple[str, str, float]]:
    """The three most frequent: true class, what it is taken for, percent of the true class's images."""
    rates = 100 * matrix.double() / matrix.double().sum(1, keepdim=True).clamp(min=1e-12)
    rates.fill_diagonal_(0)
    for index in rates.flatten().argsort(descending=True, stable=True)[:3].tolist():
        row, column = divmod(index, len(classes))
        if rates[row, column] > 0:
            yield classes[row], classes[column], float(rates[row, column])


def _precisions(report: Report) -> Iterator[str]:
    """Precision over recall, a panel a class, a line an arm: the mean over its runs."""
    for name in plots.sampled(len(report.classes), _PANELS):
        lines = {}
        for arm in report.comparison.arms:
            found = [report.precisions[run][report.classes[name]] for run in arm.runs if run in report.precisions]
            lines[arm.name] = _mean([line for line in found if len(line)])
        if any(lines.values()):
            yield plots.over_range(
                lines, [r / 100 for r in range(101)], what=f"{report.classes[name]}: precision, %", along="recall"
            )


def _average_precisions(report: Report) -> str | None:
    lines = {
        arm.name: _mean([report.average_precisions[run] for run in arm.runs if run in report.average_precisions])
        for arm in report.comparison.arms
    }
    if not any(lines.values()):
        return None
    thresholds = [0.5 + 0.05 * i for i in range(10)]
    return plots.over_range(lines, thresholds, what="AP, %", along="IoU from which a box counts as found")


def _mean(lines: Sequence[Sequence[float]]) -> list[float]:
    return [math.fsum(values) / len(lines) for values in zip(*lines, strict=True)]


def _scene(report: Report, scene: Scene) -> dict[str, Any]:
    arms = {run: arm.name for arm in report.comparison.arms for run in arm.runs}
    views = [
        {"arm": arms[run], "uri": png(picture), "counts": scene.counts[run]} for run, picture in scene.pictures.items()
    ]
    return {"name": scene.name, "views": views}


def _example(report: Report, example: Example) -> dict[str, Any]:
    height, width = example.image.shape[:2]
    guesses = []
    for run, predictions in example.predictions.items():
        arm = next(arm for arm in report.comparison.arms if run in arm.runs)
        alone = sum(other in arm.runs for other in example.predictions) == 1
        guesses.append(
            {
                "name": arm.name if alone else f"{arm.name}, seed {arm.seeds[arm.runs.index(run)]}",
                "colour": SERIES[report.comparison.arms.index(arm) % len(SERIES)],
                "right": predictions[0][0] == example.truth,
                "predictions": predictions,
            }
        )
    return {
        "uri": png(example.image),
        "width": width,
        "height": height,
        "truth": example.truth,
        "guesses": guesses,
    }


def _seeds(report: Report, runs: Collection[str]) -> list[int]:
    arms = report.comparison.arms
    return sorted({seed for arm in arms for seed, run in zip(arm.seeds, arm.runs, strict=True) if run in runs})


def _gates(report: Report) -> Iterator[dict[str, Any]]:
    for arm in report.comparison.arms:
        measured = [(seed, run) for seed, run in zip(arm.seeds, arm.runs, strict=True) if run in report.gates]
        if measured:
            seed, run = measured[0]
            yield {"arm": arm.name, "seed": seed, **_gate_view(report.gates[run])}


def _gate_view(statistics: GateStatistics) -> dict[str, Any]:
    sites, classes = list(statistics.sites.items()), statistics.classes
    shown, lines = plots.sampled(len(sites), _PANELS), list(zip(plots.sampled(len(classes), 5), SERIES, strict=False))
    first = sites[0][1]
    images, seen = int(first.count.sum()), int((first.count > 0).sum())
    return {
        "spread": gate_plots.gate_spread(statistics.sites).inline(),
        "panels": [gate_plots.class_gates(sites[i][1], classes, lines, name=sites[i][0]).inline() for i in shown],
        "legend": [(classes[k], colour) for k, colour in lines],
        "images": images,
        "by_chance": (seen - 1) / images,
        "ends": " ".join(dict.fromkeys((_share(*sites[0]), _share(*sites[-1])))),
        "sites": sites,
    }


def _share(name: str, site: Site) -> str:
    share = site.share_between
    if math.isnan(share):
        return f"No gate of {name} moves at all."
    return f"In {name}, {100 * share:.0f} % of the variance lies between classes."
