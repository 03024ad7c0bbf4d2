"""Results of :func:`senet.prune`, step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from senet.measure import Ratio
from senet.options import to_plain
from senet.surgery.report import Report

__all__ = ["Metric", "Pruning", "Saving", "Step"]

Metric = Literal["top1", "top5"]


@dataclass(frozen=True)
class Saving:
    """Cost that a network is spared where one of its gates is a constant.

    Attributes:
        parameters: of the gate.
        bytes: that its operators read and write for a batch, run one by one; those of a scale that stays taken off.
        seconds: that it takes for a batch, the median; likewise.
    """

    parameters: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Step:
    """A gate that was tried as a constant.

    Attributes:
        site: its name.
        decision: ``"folded"`` into a layer; ``"scaled"``: a constant that stays as a scale of each channel; ``"kept"``:
            the gate stays as it was, as too much accuracy would be lost.
        became: the layer, or why the scale stays; the accuracy that would be lost in all.
        before: accuracy without this step, in percent.
        after: with it.
        saving: what it spares, or would.
    """

    site: str
    decision: Literal["folded", "scaled", "kept"]
    became: str
    before: float
    after: float
    saving: Saving


@dataclass(kw_only=True)
class Pruning(Report):
    """The report of a pruning.

    Attributes:
        metric: what accuracy is.
        max_drop: percentage points that might be lost.
        images: how many it was judged by.
        before: accuracy of the network as it was, in percent.
        after: of the pruned one, on the same images.
        parameters: of the network, before and after.
        gate_parameters: those of all gates before.
        bytes: that operators read and write for a batch, run one by one, before and after.
        seconds: that a batch takes, medians taken in turn, before and after.
        ratio: of these times, after to before.
        batch: its images.
        machine: where times were taken.
        steps: in the order in which they were tried.
    """

    verb: str = "pruned"
    metric: Metric
    max_drop: float
    images: int
    before: float
    after: float
    parameters: tuple[int, int]
    gate_parameters: int
    bytes: tuple[int, int]
    seconds: tuple[float, float]
    ratio: Ratio
    batch: int
    machine: str
    steps: tuple[Step, ...]

    @property
    def standard_error(self) -> float:
        """Standard error of :attr:`after` in percentage points: its spread by chance for so many images."""
        return 100 * math.sqrt(self.after / 100 * (1 - self.after / 100) / self.images)

    def to_dict(self) -> dict[str, Any]:
        """All of it as what JSON can write."""
        return to_plain(self)

    def __str__(self) -> str:
        rows = [("site", "gate", "accuracy, %", "parameters", "MB", "ms", "")]
        rows += [
            (
                step.site,
                step.decision,
                f"{step.before:.2f} -> {step.after:.2f}",
                f"{step.saving.parameters:,}",
                f"{step.saving.bytes / 1e6:.2f}",
                f"{1e3 * step.saving.seconds:.2f}",
                step.became,
            )
            for step in self.steps
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(6)]
        lines = ["  ".join([*(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=False)), row[6]]) for row in rows]
        lines += [f"{site}: {reason}" for site, reason in self.left if site not in {step.site for step in self.steps}]
        return "\n".join([*(line.rstrip() for line in lines), *self.summary()])

    def summary(self) -> list[str]:
        """Summary of the pruning in a few lines."""
        gone = self.parameters[0] - self.parameters[1]
        share = 100 * gone / max(self.gate_parameters, 1)
        constant = sum(step.decision != "kept" for step in self.steps)
        return [
            f"{constant} of {len(self.steps)} gates are constants, {gone:,} ({share:.1f} %) of the gates' "
            f"{self.gate_parameters:,} parameters are gone, of {self.parameters[0]:,} in all",
            f"{self.metric} {self.before:.2f} % -> {self.after:.2f} % on the {self.images:,} images that chose "
            f"(standard error {self.standard_error:.2f}); judge it by others",
            f"a batch of {self.batch}: {self.bytes[0] / 1e6:.1f} -> {self.bytes[1] / 1e6:.1f} MB moved, "
            f"{1e3 * self.seconds[0]:.2f} -> {1e3 * self.seconds[1]:.2f} ms, {self.ratio.median:.3f} times as long "
            f"({self.ratio.low:.3f} to {self.ratio.high:.3f}) on {self.machine}",
        ]
