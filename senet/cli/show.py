"""Results as tables on the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from senet.analysis.arms import Spread
from senet.analysis.metrics import metric_of
from senet.analysis.wording import duration, loss, plural, spread

if TYPE_CHECKING:
    from senet.analysis.catalogue import Published, Row
    from senet.analysis.compare import Comparison
    from senet.analysis.complexity import Complexity, StageWeights
    from senet.analysis.epochs import EpochTable
    from senet.models.weights.own.records import Record
    from senet.models.weights.weight import Weight
    from senet.published import Figure
    from senet.train.detection.evaluate import DetectionScore
    from senet.train.evaluate import Evaluation

__all__ = [
    "print_comparison",
    "print_complexity",
    "print_detection_score",
    "print_epochs",
    "print_equation_5",
    "print_evaluation",
    "print_models",
    "print_options",
    "print_predictions",
    "print_published",
    "print_records",
    "print_rows",
    "print_summary",
    "print_voc_ap",
    "print_weights",
]

console = Console(highlight=False, markup=False)  # names of classes and files are no markup


def print_summary(summary: Mapping[str, Any]) -> None:
    """The end of a training, in a line or two."""
    metric = metric_of(summary)
    console.print(
        f"{summary['model']} with {summary['parameters']:,} parameters: {summary[metric.key] or 0:.2f} % {metric.name} "
        f"on {summary['val_images']:,} validation images after {plural(summary['epochs'], 'epoch')} "
        f"(best {summary[f'best_{metric.key}']:.2f} % after epoch {summary['best_epoch']}), "
        f"{duration(summary['seconds'])}"
    )
    console.print(
        f"in {summary['run']}: model.safetensors, best.safetensors, metrics.jsonl, summary.json", soft_wrap=True
    )


def print_evaluation(result: Evaluation, classes: Sequence[str]) -> None:
    """A network's score, class by class and in total."""
    table = _table("class", "images", "right")
    for name, row, index in zip(classes, result.confusion, range(len(classes)), strict=True):
        table.add_row(name, f"{sum(row):,}", f"{100 * row[index] / sum(row):.2f} %" if sum(row) else "-")
    console.print(table)
    top5 = "" if result.top5 is None else f", top-5 {result.top5:.2f} %"
    console.print(f"top-1 {result.top1:.2f} %{top5}, loss {result.loss:.4f}, {result.images:,} images")


def print_detection_score(score: DetectionScore) -> None:
    """A detector's score, class by class and in total."""
    table = _table("class", "id", "AP, %", "AP50, %")
    for one in score.per_class:
        table.add_row(one["class"], str(one["category_id"]), _or_dash(one["ap"]), _or_dash(one["ap50"]))
    console.print(table)
    told = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ap_small": "small", "ap_medium": "medium", "ap_large": "large"}
    for prefix in ("", "mask_"):
        if f"{prefix}ap" in score.numbers:
            numbers = ", ".join(f"{words} {_or_dash(score.numbers[prefix + name])}" for name, words in told.items())
            console.print(f"{'masks' if prefix else 'boxes'}: {numbers} (COCO's, percent), {score.images:,} images")


def print_voc_ap(found: Mapping[str, Mapping[str, float | None]]) -> None:
    """VOC's average precision, class by class and their mean."""
    table = _table("class", *(f"VOC {year} AP, %" for year in found))
    for name in next(iter(found.values())):
        table.add_row(name, *(_or_dash(per_class[name]) for per_class in found.values()))
    known = [[ap for ap in per_class.values() if ap is not None] for per_class in found.values()]
    table.add_row("mean", *(_or_dash(sum(aps) / len(aps) if aps else None) for aps in known), style="bold")
    console.print(table)


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def print_predictions(found: Mapping[str, Sequence[tuple[str, float]]]) -> None:
    """The most probable classes of each image."""
    for image, best in found.items():
        console.print(
            f"{image}: " + ", ".join(f"{name} {100 * p:.1f} %" for name, p in best), soft_wrap=True, markup=False
        )


def print_comparison(comparison: Comparison) -> None:
    """Arms with mean, spread and n; then what may be said of their differences."""
    score = f"{comparison.arms[0].metric.name}, %"
    table = _table("network", "parameters", "n", score, "seconds", caption="mean and standard deviation over seeds")
    for arm in comparison.arms:
        table.add_row(arm.name, f"{arm.parameters:,}", str(arm.score.n), spread(arm.score), spread(arm.seconds))
    console.print(table)
    for difference in comparison.differences:
        console.print(difference.verdict, style="bold")
    for caveat in comparison.caveats:
        console.print(caveat)


def print_epochs(epochs: EpochTable) -> None:
    """Arms after some epochs."""
    table = _table("epoch", caption="mean and standard deviation over seeds")
    table.add_column("network", overflow="fold")
    for column in epochs.columns:
        table.add_column(column.title, justify="right", overflow="fold")
    for row in epochs.rows:
        cells = [(loss if c.is_loss else spread)(row.numbers[c.name]) for c in epochs.columns]
        table.add_row(str(row.epoch), row.arm, *cells)
    console.print()
    console.print(table)


def print_models(rows: Sequence[Row]) -> None:
    """The catalogue; the source where the terminal is wide enough for it."""
    wide = console.width >= 120
    table = _table("network", "px", "parameters", "multiply-adds", "error, %", "weights")
    if wide:
        table.add_column("source", overflow="fold")
    for column in table.columns[:6]:
        column.no_wrap = True  # whoever searches for a name or a number finds it whole
    for row in rows:
        cells = [row.name, row.px, f"{row.parameters:,}", f"{row.multiply_adds:,}"]
        cells += ["-" if row.error is None else f"{row.error:.2f}", str(len(row.weights) or "-")]
        table.add_row(*cells, *([row.source] if wide else []))
    console.print(table)
    console.print("error: published top-1, one crop; weights: how many there are. `senet info` says more of each.")


def print_published(rows: Sequence[Published]) -> None:
    """Published figures, and how published sizes follow from our counts."""
    if not rows:
        return
    table = _table("published in")
    for name in ("row", "figures"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row.where, row.row, ", ".join(_printed(figure) for figure in row.figures))
    console.print()
    console.print(table)
    sizes = {(figure.metric, figure.value): (figure, ours, rule) for row in rows for figure, ours, rule in row.sizes}
    for figure, ours, rule in sizes.values():
        console.print(f"{_printed(figure)}: {ours:,} by our count; {rule}.")


def _printed(figure: Figure) -> str:
    doubt = "" if figure.verified else " (unverified)"
    return f"{figure.metric.replace('_', ' ')} {figure.value} {figure.unit}{doubt}"


def print_options(options: Mapping[str, Any]) -> None:
    """The options of a network, those that are long by their number of entries."""
    console.print()
    rows = []
    for name, value in options.items():
        nested = isinstance(value, list) and any(isinstance(item, dict) for item in value)
        rows.append((name, f"{len(value)} entries, see --json" if nested else json.dumps(value)))
    print_rows("option", "value", rows)


def print_weights(weights: Sequence[Weight]) -> None:
    """The weights in the package and on the hub."""
    if not weights:
        return
    table = _table("weights", "px", "top-1, %")
    for name in ("trained on", "licence", "where"):
        table.add_column(name, overflow="fold")
    for weight in weights:
        best = weight.published[0]
        score = "-" if best.top1 is None else f"{best.top1:.2f}"
        trained_on = ", ".join(weight.trained_on)
        where = "in the package" if weight.hub is None else "hub, hash known here" if weight.sha256 else "hub"
        table.add_row(
            weight.tag, str(best.preprocessing.size), score, trained_on, weight.license or "not stated", where
        )
    console.print()
    console.print(table)


def print_records(records: Sequence[Record]) -> None:
    """Prints training and accuracy of the weights in the package, and the accuracy with other seeds."""
    for record in records:
        seeds = Spread.of(list(record.seed_top1.values()))
        of = "one seed only," if seeds.n == 1 else f"over {plural(seeds.n, 'seed')}"
        console.print(
            f"{record.tag}: seed {record.run['seed']} after its last epoch ({record.run['epochs']}); "
            f"{record.right:,} of {record.images:,} held-out images right; {of} {spread(seeds)} % before rounding to "
            "float16."
        )


def print_rows(first: str, second: str, rows: Sequence[tuple[str, str]]) -> None:
    """Names and what they mean."""
    table = _table(first)
    table.add_column(second, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def print_complexity(name: str, image: tuple[int, int], complexity: Complexity) -> None:
    """Prints the cost of a network for an image of this height and width, stage by stage, and its blocks' share."""
    blocks = complexity.attention
    has_blocks = bool(blocks.squeezed or blocks.parameters)
    own = ("blocks' parameters", "multiply-adds") if has_blocks else ()
    table = _table("stage", "parameters", "multiply-adds", *own)
    rows = [(stage, cost, complexity.stage_attention.get(stage)) for stage, cost in complexity.stages.items()]
    for stage, cost, share in [*rows, ("total", complexity.total, blocks)]:
        if not (cost.parameters or cost.multiply_adds):
            continue
        cells = [f"{cost.parameters:,}", f"{cost.multiply_adds:,}"]
        if has_blocks:
            cells += ["", ""] if share is None else [f"{share.parameters:,}", f"{share.multiply_adds:,}"]
        table.add_row(stage, *cells, style="bold" if stage == "total" else "")
    console.print(f"{name} at {image[0]}x{image[1]}, one image")
    console.print(table)
    if has_blocks:
        parameters = complexity.total.parameters - blocks.parameters
        work = complexity.total.multiply_adds - blocks.multiply_adds
        console.print(
            f"The blocks add {100 * blocks.parameters / parameters:.2f} % parameters and "
            f"{100 * blocks.multiply_adds / work:.2f} % multiply-adds; they also read {blocks.squeezed:,} elements to "
            f"squeeze and write {blocks.scaled:,} to scale, which no count of multiply-adds shows."
        )


def print_equation_5(stages: Sequence[StageWeights]) -> None:
    """The weights that SE adds by the paper's equation 5, beside the exact count, stage by stage; nothing without."""
    if not stages:
        return
    table = _table("stage", "blocks N", "channels C", "r", "2/r N C^2", "counted, with biases")
    for stage in stages:
        numbers = (stage.blocks, stage.channels)
        cells = [*map(str, numbers), f"{stage.reduction:.4g}", f"{stage.weights:,}", f"{stage.parameters:,}"]
        table.add_row(stage.stage, *cells)
    weights, counted = sum(stage.weights for stage in stages), sum(stage.parameters for stage in stages)
    table.add_row("total", "", "", "", f"{weights:,}", f"{counted:,}", style="bold")
    console.print("\nThe paper's equation 5, the weights that SE adds: (2 / r) * sum of N C^2 over stages")
    console.print(table)


def _table(first: str, *numbers: str, caption: str | None = None) -> Table:
    table = Table(box=None, header_style="dim", caption=caption, caption_justify="left", pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold")  # a number is never cut
    return table
