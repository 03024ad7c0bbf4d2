"""The report's plots: numbers in, one inline SVG out, legible on a phone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from senet.analysis.arms import Arm
from senet.analysis.svg import INK, SERIES, draw, legend, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["accuracies", "confusion", "curves", "over_range", "sampled"]

_NAMED = 20  # classes up to which a confusion matrix has names and numbers


def sampled(count: int, most: int) -> list[int]:
    """At most ``most`` of the numbers 0 to count - 1, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def curves(arms: Mapping[str, Sequence[Sequence[float]]], *, what: str) -> str:
    """One number over the epochs (as in the paper's Figure 4): a light line for each seed, a bold one for the mean.

    Args:
        arms: name -> for each seed the values of epochs 1, 2, ... The mean ends where the shortest run does. An arm
            without runs keeps its colour and is not drawn.
        what: the number, with its unit; the axis' label.
    """

    def paint(axes: Axes) -> None:
        bold, names = [], []
        for (name, runs), colour in zip(arms.items(), _colours(len(arms)), strict=True):
            if not runs:
                continue
            names.append(shorten(name, 44))
            for values in runs:
                axes.plot(range(1, len(values) + 1), values, color=colour, alpha=0.35, linewidth=1)
            means = [math.fsum(values) / len(runs) for values in zip(*runs, strict=False)]
            bold += axes.plot(range(1, len(means) + 1), means, color=colour, linewidth=2.4)
            axes.plot(len(means), means[-1], "o", color=colour, markersize=5)
        axes.set_xlim(0.5, max(len(values) for runs in arms.values() for values in runs) + 0.5)
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        axes.set_xlabel("epoch")
        axes.set_title(what)
        axes.grid(axis="y")
        legend(axes, bold, names)

    return draw(paint, width=380, height=250 + 19 * len(arms), title=f"{what} over the epochs, by arm")


def over_range(lines: Mapping[str, Sequence[float]], along_values: Sequence[float], *, what: str, along: str) -> str:
    """A number over a range, a line an arm; percent, so from 0 to 100.

    Args:
        lines: name -> the values; none for an arm that is not drawn and keeps its colour.
        along_values: where they are.
        what: the number, with its unit.
        along: what the range is of; the axis' label.
    """

    def paint(axes: Axes) -> None:
        drawn, names = [], []
        for (name, values), colour in zip(lines.items(), _colours(len(lines)), strict=True):
            if values:
                drawn += axes.plot(along_values, values, color=colour, linewidth=2)
                names.append(shorten(name, 44))
        axes.set_ylim(0, 100)
        axes.set_xlabel(along)
        axes.set_title(shorten(what, 44))
        axes.grid()
        legend(axes, drawn, names)

    return draw(paint, width=380, height=250 + 19 * len(lines), title=f"{what} over {along}, by arm")


def accuracies(arms: Sequence[Arm]) -> str:
    """The final score of every run: a dot each, a bar for the mean, lines between equal seeds of neighbours."""
    metric = arms[0].metric

    def paint(axes: Axes) -> None:
        rows = range(len(arms))
        for row, arm, colour in zip(rows, arms, _colours(len(arms)), strict=True):
            axes.plot(arm.accuracies, [row] * len(arm.accuracies), "o", color=colour, markersize=8, alpha=0.75)
            axes.plot([arm.score.mean] * 2, [row - 0.2, row + 0.2], color=colour, linewidth=3)
            axes.annotate(shorten(arm.name, 44), (0, row - 0.3), xycoords=("axes fraction", "data"))
        for row, (upper, lower) in enumerate(itertools.pairwise(arms)):
            ends = dict(zip(lower.seeds, lower.accuracies, strict=True))
            for seed, value in zip(upper.seeds, upper.accuracies, strict=True):
                if seed in ends:
                    axes.plot([value, ends[seed]], [row, row + 1], color=INK, alpha=0.3, linewidth=1, zorder=1)
        axes.set_ylim(len(arms) - 0.6, -0.65)
        axes.set_yticks([])
        axes.margins(x=0.08)
        axes.spines["left"].set_visible(False)
        axes.locator_params(axis="x", nbins=5)
        axes.ticklabel_format(useOffset=False)
        axes.set_xlabel(f"{metric.long}, %")
        axes.grid(axis="x")

    return draw(paint, width=380, height=70 + 62 * len(arms), title=f"{metric.long} of every run, by arm")


def confusion(matrix: Tensor, classes: Sequence[str], *, title: str) -> str:
    """A confusion matrix: rows the true class, columns the predicted one, blue right and orange wrong.

    Cells are percent of the row. Small errors are drawn more strongly than their share (its square root).

    Args:
        matrix: (K, K) counts of images, or shares of them.
        classes: K names.
        title: above the matrix.
    """
    rates = matrix.double() / matrix.double().sum(1, keepdim=True).clamp(min=1e-12)
    right = torch.eye(len(classes), dtype=torch.bool)
    cells = torch.empty(len(classes), len(classes), 4, dtype=torch.float64)
    cells[..., :3] = torch.where(right[..., None], _rgb(SERIES[0]), _rgb(SERIES[1]))
    cells[..., 3] = torch.where(right, 0.75 * rates, 0.9 * rates.sqrt())

    def paint(axes: Axes) -> None:
        axes.imshow(cells.numpy(), interpolation="none")
        named = range(len(classes)) if len(classes) <= _NAMED else sampled(len(classes), 10)
        size = 12 if len(classes) <= 10 else 10
        names = [shorten(classes[k], 14) for k in named]
        axes.set_xticks(named, names, rotation=90, fontsize=size)
        axes.set_yticks(named, names, fontsize=size)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(shorten(title, 50))
        if len(classes) > _NAMED:
            return
        for row, column in (rates > 0.005).nonzero().tolist():
            text = f"{100 * rates[row, column]:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=size - (len(classes) > 10))

    return draw(paint, width=400, height=400, title=f"confusion matrix, {title}")


def _colours(count: int) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(count)]


def _rgb(colour: str) -> Tensor:
    return torch.tensor([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)], dtype=torch.float64)
