"""The report's plots: numbers in, one inline SVG out, legible on a phone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from senet.analysis.arms import Arm
from senet.analysis.gates import STILL, Site
from senet.analysis.svg import INK, SERIES, draw, legend, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["accuracies", "class_gates", "confusion", "curves", "gate_spread", "sampled"]

_NAMED = 20  # classes up to which a confusion matrix has names and numbers
_CHANNELS = 50  # channels shown of a block, as in the paper's Figure 6


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


def accuracies(arms: Sequence[Arm]) -> str:
    """Final top-1 of every run: a dot for each seed, a bar for the mean, lines between equal seeds of neighbours."""

    def paint(axes: Axes) -> None:
        rows = range(len(arms))
        for row, arm, colour in zip(rows, arms, _colours(len(arms)), strict=True):
            axes.plot(arm.accuracies, [row] * len(arm.accuracies), "o", color=colour, markersize=8, alpha=0.75)
            axes.plot([arm.top1.mean] * 2, [row - 0.2, row + 0.2], color=colour, linewidth=3)
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
        axes.set_xlabel("top-1 accuracy, %")
        axes.grid(axis="x")

    return draw(paint, width=380, height=70 + 62 * len(arms), title="top-1 accuracy of every run, by arm")


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


def class_gates(site: Site, classes: Sequence[str], *, name: str) -> str:
    """Mean gates of one block by class (the paper's Figure 6): thin lines for classes, bold for all images.

    Args:
        site: the block's statistics.
        classes: the names; at most five, evenly spread over the list, get a line.
        name: the block's name, above the panel.
    """
    channels = sampled(len(site.mean), _CHANNELS)

    def paint(axes: Axes) -> None:
        axes.plot(channels, site.mean[channels], color=INK, alpha=0.4, linewidth=4)
        for k, colour in zip(sampled(len(classes), 5), SERIES, strict=False):
            axes.plot(channels, site.class_means[k, channels], color=colour, linewidth=1.3)
        axes.set_ylim(min(-0.03, float(site.mean.min())), max(1.03, float(site.mean.max())))
        axes.set_title(shorten(name, 32))
        axes.grid(axis="y")
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("channel")

    return draw(paint, width=340, height=220, title=f"mean gate of each channel by class, block {name}")


def gate_spread(sites: Mapping[str, Site]) -> str:
    """How much the gates of each block move, between classes and within, and how many hardly move at all.

    Left: the standard deviation of a gate over all images, root mean square over the block's channels, divided
    in proportion to the variance between and within classes. Right: percent of the block's gates whose standard
    deviation is below :data:`senet.analysis.gates.STILL`. Blocks from top to bottom in the order they run.
    """
    rows = range(len(sites))
    spread = [float((site.std**2).mean().sqrt()) for site in sites.values()]
    between = [s * site.share_between if s > 0 else 0.0 for s, site in zip(spread, sites.values(), strict=True)]
    within = [s - b for s, b in zip(spread, between, strict=True)]

    def paint(moves: Axes, still: Axes) -> None:
        first = moves.barh(rows, between, color=SERIES[1], height=0.72)
        second = moves.barh(rows, within, left=between, color=SERIES[0], height=0.72)
        moves.set_yticks(rows, [shorten(name, 18) for name in sites])
        moves.set_ylim(len(sites) - 0.4, -0.6)
        moves.set_title("std of a gate")
        still.barh(rows, [100 * site.still for site in sites.values()], color=INK, alpha=0.55, height=0.72)
        still.set_xlim(0, 100)
        still.set_title(f"std < {STILL}, % of gates")
        for axes in (moves, still):
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_visible(False)
            axes.locator_params(axis="x", nbins=3)
            axes.grid(axis="x")
        legend(moves, [first, second], ["between classes", "within classes"])

    height = 110 + 24 * len(sites)
    return draw(paint, width=400, height=height, title="standard deviation of the gates by block", columns=2)


def _colours(count: int) -> list[str]:
    return [SERIES[i % len(SERIES)] for i in range(count)]


def _rgb(colour: str) -> Tensor:
    return torch.tensor([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)], dtype=torch.float64)
