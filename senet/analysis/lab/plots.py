"""The excitation lab's own plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor

from senet.analysis.gates.statistics import Site
from senet.analysis.lab.images import Portrait
from senet.analysis.lab.leave_out import How, LeaveOneOut
from senet.analysis.lab.statistics import Spectrum
from senet.analysis.svg import INK, SERIES, Plot, legend, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["HOWS", "STRIP", "gate_map", "losses", "ranks", "similarities", "strips"]

HOWS: Mapping[How, str] = {"mean": "at their mean", "one": "at 1", "shuffled": "of another image"}
STRIP = 16  # channels of a block in a strip
_FEW = 6  # classes up to which a matrix is small
_SMALL = 240  # and has this width
_NUMBERS = 10  # classes up to which a matrix has numbers
_NAMES = 20  # and names


def losses(found: LeaveOneOut) -> Plot:
    """Change of top-1 with the gates of one block changed, two standard errors to either side."""
    rows = range(len(found.sites))

    def paint(axes: Axes) -> None:
        marks = []
        for how, colour, shape, offset in zip(get_args(How), SERIES, "osD", (-0.24, 0.0, 0.24), strict=False):
            changes = [found.of(site, how).top1 for site in found.sites]
            bars = axes.errorbar(
                [change.points for change in changes],
                [row + offset for row in rows],
                xerr=[2 * change.error for change in changes],
                fmt=shape,
                color=colour,
                markersize=6,
                elinewidth=1.6,
            )
            marks.append(bars[0])
        axes.axvline(0, color=INK, linewidth=0.8, alpha=0.6)
        _by_block(axes, found.sites)
        axes.set_xlabel("change of top-1, points")
        legend(axes, marks, [f"gates {words}" for words in HOWS.values()])

    return Plot(paint, 400, 130 + 46 * len(found.sites), "change of accuracy with the gates of one block changed")


def ranks(spectra: Mapping[str, Spectrum], sites: Mapping[str, Site]) -> Plot:
    """In how many directions the gates of each block move, beside how many gates it has."""
    rows = range(len(spectra))

    def paint(axes: Axes) -> None:
        values = list(spectra.values())
        rank = axes.plot([s.effective_rank for s in values], rows, "o", color=SERIES[0], markersize=7)
        ratio = axes.plot([s.participation_ratio for s in values], rows, "D", color=SERIES[1], markersize=6)
        gates = axes.plot([len(sites[name].mean) for name in spectra], rows, "|", color=INK, markersize=13)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}")
        _by_block(axes, list(spectra))
        legend(axes, [*rank, *ratio, *gates], ["effective rank", "participation ratio", "gates of the block"])

    return Plot(paint, 400, 120 + 28 * len(spectra), "effective rank of the gates by block")


def similarities(matrix: Tensor, classes: Sequence[str], *, name: str) -> Plot:
    """Correlation of the classes' mean gates in one block: blue alike, orange opposite.

    Args:
        matrix: (K, K), from -1 to 1; NaN is left blank.
        classes: K names, in the order of the rows.
        name: the block's.
    """
    colours = torch.tensor([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in SERIES[:2]])
    cells = torch.empty(*matrix.shape, 4)
    cells[..., :3] = torch.where((matrix >= 0)[..., None], colours[0], colours[1])
    cells[..., 3] = 0.75 * matrix.nan_to_num(0).abs()
    size = 12 if len(classes) <= _NUMBERS else 10
    side = 380 if len(classes) > _FEW else _SMALL

    def paint(axes: Axes) -> None:
        axes.imshow(cells.numpy(), interpolation="none")
        axes.set_title(shorten(name, 32 if side > _SMALL else 16))
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        named = range(len(classes)) if len(classes) <= _NAMES else []
        names = [shorten(classes[k], 14) for k in named]
        axes.set_xticks(named, names, rotation=90, fontsize=size)
        axes.set_yticks(named, names, fontsize=size)
        if len(classes) <= _NUMBERS:
            for row, column in matrix.isfinite().nonzero().tolist():
                value = round(float(matrix[row, column]), 1) + 0.0  # no minus before a zero
                text = f"{value:.1f}".replace("-", "\N{MINUS SIGN}")
                axes.text(column, row, text, ha="center", va="center", fontsize=11)

    return Plot(paint, side, side, f"correlation of the mean gates of classes, block {name}")


def strips(portrait: Portrait, sites: Sequence[str], *, most: float) -> Plot:
    """For each block the gates of one image that differ most from the mean image's, opened to the left.

    Args:
        portrait: the image.
        sites: the blocks, from top to bottom.
        most: the difference that has the full colour.
    """
    colours = torch.tensor([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in SERIES[:2]])
    cells = torch.zeros(len(sites), STRIP, 4)
    for row, site in enumerate(sites):
        all_of_them = portrait.deviations[site]
        strongest = all_of_them[all_of_them.abs().argsort(descending=True, stable=True)[:STRIP]].sort(descending=True)
        values = strongest.values.float()
        cells[row, : len(values), :3] = torch.where((values >= 0)[:, None], colours[0], colours[1])
        cells[row, : len(values), 3] = (values.abs() / max(most, 1e-12)).clamp(max=1)

    def paint(axes: Axes) -> None:
        axes.imshow(cells.numpy(), interpolation="none", aspect="auto")
        axes.set_yticks(range(len(sites)), [shorten(site, 22) for site in sites])
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xticks([i - 0.5 for i in range(1, STRIP)], minor=True)
        axes.set_yticks([i - 0.5 for i in range(1, len(sites))], minor=True)
        axes.tick_params(which="minor", length=0)
        axes.set_xlabel(f"opened \N{LEFTWARDS ARROW} the {STRIP} that move most \N{RIGHTWARDS ARROW} shut", fontsize=12)

    return Plot(paint, 400, 50 + 26 * len(sites), f"gates of one image of class {portrait.truth}, minus their mean")


def gate_map(plane: Tensor, *, name: str) -> Plot:
    """A gate at every position of its map, (h, w): the darker the ink, the more open."""
    low, high = min(0.0, float(plane.min())), max(1.0, float(plane.max()))
    cells = torch.empty(*plane.shape, 4)
    cells[..., :3] = torch.tensor([int(SERIES[0][i : i + 2], 16) / 255 for i in (1, 3, 5)])
    cells[..., 3] = (plane.float() - low) / (high - low)

    def paint(axes: Axes) -> None:
        axes.imshow(cells.numpy(), interpolation="none")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_title(shorten(name, 24), fontsize=12)

    return Plot(paint, 170, 190, f"gates over positions, block {name}")


def _by_block(axes: Axes, sites: Sequence[str]) -> None:
    axes.set_yticks(range(len(sites)), [shorten(site, 22) for site in sites])
    axes.set_ylim(len(sites) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
