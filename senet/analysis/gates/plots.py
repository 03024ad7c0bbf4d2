"""The plots of gates: by class, within classes, and how much they move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from senet.analysis.gates.statistics import STILL, Site
from senet.analysis.plots import sampled
from senet.analysis.svg import INK, SERIES, Plot, legend, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["class_gates", "class_spreads", "gate_spread"]

_CHANNELS = 50  # channels shown of a block, as in the paper's Figure 6


def class_gates(site: Site, classes: Sequence[str], shown: Sequence[tuple[int, str]], *, name: str) -> Plot:
    """Mean gates of one block by class (the paper's Figure 6): thin lines for classes, bold for all images.

    Args:
        site: the block's statistics.
        classes: the names of all classes.
        shown: the classes that get a line, with their colours.
        name: the block's name, above the panel.
    """
    channels = sampled(len(site.mean), _CHANNELS)
    lines = site.class_means[:, channels]

    def paint(axes: Axes) -> None:
        axes.plot(channels, site.mean[channels], _line(channels), color=INK, alpha=0.4, linewidth=4, markersize=9)
        for k, colour in shown:
            axes.plot(channels, lines[k], _line(channels), color=colour, linewidth=1.3)
        _channels_and_gates(axes, torch.cat([site.mean[channels][None], lines[[k for k, _ in shown]]]), name)

    title = f"mean gate of each channel by class, block {name}"
    key = [(shorten(classes[k], 40), colour) for k, colour in shown]
    return Plot(paint, 340, 220, title, key=[*key, ("all images", f"{INK}66")])


def class_spreads(site: Site, classes: Sequence[str], shown: Sequence[tuple[int, str]], *, name: str) -> Plot:
    """Gates of one block within classes (the paper's Figure 7): mean, and a band of one standard deviation.

    Args:
        site: the block's statistics.
        classes: the names of all classes.
        shown: the classes, with their colours.
        name: the block's name, above the panel.
    """
    channels = sampled(len(site.mean), _CHANNELS)
    means, stds = site.class_means[:, channels], site.class_stds[:, channels]
    rows = [k for k, _ in shown]

    def paint(axes: Axes) -> None:
        for k, colour in shown:
            low, high = means[k] - stds[k], means[k] + stds[k]
            axes.fill_between(channels, low, high, color=colour, alpha=0.25, linewidth=0 if len(channels) > 1 else 5)
            axes.plot(channels, means[k], _line(channels), color=colour, linewidth=1.3)
        _channels_and_gates(axes, torch.cat([(means - stds)[rows], (means + stds)[rows]]), name)

    title = f"mean and standard deviation of each gate within classes, block {name}"
    return Plot(paint, 340, 220, title, key=[(shorten(classes[k], 40), colour) for k, colour in shown])


def _line(channels: Sequence[int]) -> str:
    return "-" if len(channels) > 1 else "o"


def _channels_and_gates(axes: Axes, values: Tensor, name: str) -> None:
    """Axes that show a sigmoid's whole range, and more where gates go beyond it."""
    seen = torch.cat([values[values.isfinite()], values.new_tensor([0, 1])])
    low, high = float(seen.min()), float(seen.max())
    margin = 0.03 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    axes.set_title(shorten(name, 32))
    axes.grid(axis="y")
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("channel")


def gate_spread(sites: Mapping[str, Site]) -> Plot:
    """Plots the spread of each block's gates, between classes and within, and the share of gates that hardly move.

    Left: the standard deviation of a gate over all images, root mean square over the block's channels, divided
    in proportion to the variance between and within classes. Right: percent of the block's gates whose standard
    deviation is below :data:`senet.analysis.gates.statistics.STILL`. Blocks from top to bottom in the order they run.
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
    return Plot(paint, 400, height, "standard deviation of the gates by block", columns=2)
