"""Our runs of a table, drawn: every seed, the paired differences, and how the networks learnt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from senet.analysis.evidence.compared import Compared, Contrast
from senet.analysis.svg import INK, SERIES, Plot, legend, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["differences", "dynamics"]


def differences(compared: Compared) -> Plot:
    """On the left the error of every seed and their mean, on the right the differences with their 95 % intervals.

    A difference that is shown (:data:`senet.analysis.paired.RULE`) is filled, another hollow.
    """
    rows = [row for row in compared.rows if row.errors]
    kinds = (("o", SERIES[1], -0.08, [row.plain for row in rows]), ("D", SERIES[0], 0.14, [r.standard for r in rows]))

    def paint(left: Axes, right: Axes) -> None:
        for at, row in enumerate(rows):
            left.plot(list(row.errors.values()), [at] * len(row.errors), "o", color=INK, markersize=6, alpha=0.45)
            if row.error:
                left.plot([row.error.mean] * 2, [at - 0.17, at + 0.17], color=INK, linewidth=2.5)
            left.annotate(shorten(row.entry.label, 30), (0, at - 0.36), xycoords=("axes fraction", "data"))
        marks, names = [], []
        for shape, colour, offset, contrasts in kinds:
            for at, contrast in enumerate(contrasts):
                _difference(right, contrast, at + offset, shape, colour)
            if references := {contrast.reference.label for contrast in contrasts if contrast and contrast.paired.seeds}:
                marks += right.plot([], [], shape, color=colour)
                names.append(f"minus {references.pop() if len(references) == 1 else 'its plain twin'}")
        marks += right.plot([], [], "o", color=INK, markerfacecolor="none", markeredgewidth=1.6)
        names.append("hollow: not shown")
        right.axvline(0, color=INK, linewidth=0.8, alpha=0.6)
        left.set_ylim(len(rows) - 0.5, -0.7)
        for axes, words in ((left, "top-1 error, %"), (right, "difference, points")):
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.margins(x=0.08)
            axes.locator_params(axis="x", nbins=4)
            axes.ticklabel_format(useOffset=False)
            axes.set_xlabel(words)
            axes.grid(axis="x")
        legend(left, marks, names)

    title = f"Table {compared.number}: error of every seed, and paired differences with 95 % intervals"
    return Plot(paint, 420, 130 + 48 * len(rows), title, columns=2)


def _difference(axes: Axes, contrast: Contrast | None, at: float, shape: str, colour: str) -> None:
    if contrast is None or contrast.paired.spread is None:
        return
    half = contrast.paired.half_width
    axes.errorbar(
        [contrast.paired.spread.mean],
        [at],
        xerr=None if half is None else [half],
        fmt=shape,
        color=colour,
        markersize=6,
        elinewidth=1.8,
        markerfacecolor=colour if contrast.paired.shown else "none",
        markeredgewidth=1.6,
    )


def dynamics(arms: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]], *, name: str) -> Plot:
    """Training and validation error over the epochs, as in the paper's Figure 4: mean and range over seeds.

    Training error is that of the changed images as they were learnt from, while the weights moved.

    Args:
        arms: name -> for each seed its epochs, with ``train_top1`` and ``val_top1`` in percent, all as many; at most
            two arms, the first dashed.
        name: heads the figure.
    """
    styles = list(zip((SERIES[1], SERIES[0]), ("--", "-"), strict=True))

    def paint(*both: Axes) -> None:
        lines = []
        for axes, key, words in zip(both, ("train_top1", "val_top1"), ("training", "validation"), strict=True):
            for runs, (colour, style) in zip(arms.values(), styles, strict=False):
                errors = [[100 - epoch[key] for epoch in run] for run in runs]
                epochs = range(1, len(errors[0]) + 1)
                by_epoch = list(zip(*errors, strict=True))
                means = [math.fsum(each) / len(each) for each in by_epoch]
                axes.fill_between(
                    epochs, list(map(min, by_epoch)), list(map(max, by_epoch)), color=colour, alpha=0.2, linewidth=0
                )
                lines += axes.plot(epochs, means, style, color=colour, linewidth=2.2)
            axes.locator_params(axis="x", integer=True, min_n_ticks=1)
            axes.set_xlabel("epoch")
            axes.set_title(f"{words} error, %")
            axes.grid(axis="y")
        legend(both[0], lines[: len(arms)], list(arms))

    return Plot(paint, 420, 270, f"{name}: training and validation error over the epochs", columns=2)
