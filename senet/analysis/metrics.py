"""The number by which the networks of a task are judged, and what it is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["METRICS", "Metric", "metric_of"]


@dataclass(frozen=True)
class Metric:
    """A score in percent, of which more is better, and a second one that is told beside it.

    Attributes:
        key: in a run's summary.
        name: in a sentence and above a column.
        long: at an axis.
        second: the other's key.
        second_name: the other's name.
    """

    key: str
    name: str
    long: str
    second: str
    second_name: str


METRICS = {
    metric.key: metric
    for metric in (
        Metric("top1", "top-1", "top-1 accuracy", "top5", "top-5"),
        Metric("ap", "AP", "COCO AP of boxes", "ap50", "AP50"),
    )
}


def metric_of(summary: Mapping[str, Any]) -> Metric:
    """Returns the metric that a run is judged by: AP where its summary has one, otherwise top-1."""
    return METRICS["ap" if "ap" in summary else "top1"]
