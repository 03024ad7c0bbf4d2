"""Contents of a report: plain data, filed by run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from senet.analysis.compare import Comparison
from senet.analysis.gates.measure import GateStatistics
from senet.errors import InputError

__all__ = ["Example", "Report", "Scene"]


@dataclass(frozen=True)
class Example:
    """A held-out image and what some of the runs take it for."""

    image: Tensor  # uint8, (H, W) grey or (H, W, 3) RGB
    truth: str
    predictions: Mapping[str, Sequence[tuple[str, float]]]  # run -> (class, probability), most probable first


@dataclass(frozen=True)
class Scene:
    """A held-out image with the boxes that the detectors of some runs give it."""

    name: str
    pictures: Mapping[str, Tensor]  # run -> uint8 (H, W, 3), boxes drawn on it
    counts: Mapping[str, tuple[int, int, int]]  # run -> how many objects are found, missed, and detections false


@dataclass(frozen=True)
class Report:
    """Contents of a report. Whatever belongs to one run is filed under its ``run`` of the summaries.

    All but title, comparison and classes may be left out, for some runs or for all: its part of the page is then
    left out too.

    Attributes:
        title: heads the page.
        subtitle: stands below it, in small.
        comparison: the answer, from :func:`senet.analysis.compare.compare`.
        classes: names of the K classes.
        histories: run -> a line an epoch, as :func:`senet.analysis.epochs.epoch_table` takes them.
        epochs: those of the table by epoch; None: at most five, evenly spread.
        confusions: run -> (K, K) counts of images, rows the true class; those of an arm are added up.
        examples: some held-out images.
        precisions: run -> class -> precision in percent at recalls of 0, 1, ... 100 %; of detectors.
        average_precisions: run -> AP in percent at IoU from 0.5 to 0.95; of detectors.
        scenes: some held-out images with boxes.
        scene_colours: of boxes found, missed and false.
        gates: run -> the statistics of its gates; of each arm the first run that has any is shown.
        recipe_diff: what differs between the recipes, as the lines of a unified diff.
        versions: name -> version of what was used.
    """

    title: str
    comparison: Comparison
    classes: tuple[str, ...]
    subtitle: str = ""
    histories: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    epochs: Sequence[int] | None = None
    confusions: Mapping[str, Tensor] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    precisions: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    average_precisions: Mapping[str, Sequence[float]] = field(default_factory=dict)
    scenes: Sequence[Scene] = ()
    scene_colours: tuple[str, str, str] | None = None
    gates: Mapping[str, GateStatistics] = field(default_factory=dict)
    recipe_diff: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses what belongs to no run of the comparison.

        Raises:
            InputError: names the run, or the matrix that has another number of classes.
        """
        runs = {run for arm in self.comparison.arms for run in arm.runs}
        predictions = {run for example in self.examples for run in example.predictions}
        predictions |= {run for scene in self.scenes for run in scene.pictures}
        found = (*self.precisions, *self.average_precisions)
        for run in (*self.histories, *self.confusions, *self.gates, *found, *predictions):
            if run not in runs:
                raise InputError(
                    f"the report has results of run {run!r}, which is not compared; compared: {sorted(runs)}"
                )
        for run, matrix in self.confusions.items():
            if matrix.shape != (len(self.classes),) * 2:
                raise InputError(
                    f"the confusion matrix of run {run!r} is {tuple(matrix.shape)} for {len(self.classes)} classes; "
                    "give one row and one column a class"
                )
