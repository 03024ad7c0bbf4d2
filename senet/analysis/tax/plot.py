"""The tax as a picture: how much longer, and how much more moved and kept, way by way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from senet.analysis.svg import SERIES, shorten
from senet.analysis.tax.tax import Price, Tax
from senet.analysis.wording import plural
from senet.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["check_plot", "plot_tax"]

_SUFFIXES = (".png", ".svg", ".pdf")
_STYLE: Any = {
    "svg.hashsalt": "senet",
    "text.parse_math": False,  # a $ in a name is a $
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "ytick.major.size": 0,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "figure.dpi": 150,
}


def check_plot(file: Path) -> None:
    """Whether a picture can be drawn into a file of that name.

    Raises:
        InputError: the suffix is not known, or matplotlib is not installed.
    """
    if file.suffix not in _SUFFIXES:
        raise InputError(f"{file} is no picture's name; accepted: names that end in {', '.join(_SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"plots need {error.name}; pip install 'senet[plot]'") from error


def plot_tax(name: str, tax: Tax, file: Path) -> None:
    """Draws the ratios of times with quartiles and intervals and, beside them, of bytes moved and kept.

    Args:
        name: the network's.
        tax: what was measured.
        file: whose suffix says how: ``.png``, ``.svg`` or ``.pdf``.

    Raises:
        InputError: as :func:`check_plot`.
    """
    check_plot(file)
    import matplotlib
    from matplotlib.figure import Figure

    ways = [price.way for price in tax.prices]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.4, 2.2 + 0.6 * len(ways)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
        marks = _draw_times(left, tax, ways) | _draw_bytes(right, tax)
        left.set_yticks(range(len(ways)), ways)
        left.set_ylim(len(ways) - 0.5, -0.5)
        for axes in (left, right):
            axes.axvline(1, color="black", linewidth=1)
            axes.grid(axis="x")
            axes.margins(x=0.1)
        setting = tax.setting
        what = "training" if setting.train else "inference"
        figure.suptitle(
            f"{shorten(name, 40)}: {plural(len(tax.sites), 'gated map')}; {what}, batch {setting.batch}, "
            f"{setting.size}x{setting.size}, {setting.dtype}, {setting.layout}\n{tax.machine}, torch {tax.torch}",
            x=0.01,
            ha="left",
            fontsize=11,
        )
        figure.legend(list(marks.values()), list(marks), loc="outside lower left", ncols=2)
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def _draw_times(axes: Axes, tax: Tax, ways: Sequence[str]) -> dict[str, Any]:
    marks: dict[str, Any] = {}
    both = (
        ("against the twin as it is run", tax.prices, SERIES[0], -0.12),
        ("against the twin prepared alike", tax.control, SERIES[1], 0.12),
    )
    for label, prices, colour, offset in both:
        for price in prices:
            marks[label] = _draw_price(axes, price, ways.index(price.way) + offset, colour)
            text, point = f"{price.ratio.median:.2f}", (price.ratio.median, ways.index(price.way) + offset)
            axes.annotate(text, point, (0, 6 if offset < 0 else -15), textcoords="offset points", ha="center")
    axes.set_title("time, SE / plain (median, quartiles, 95 %)")
    return marks


def _draw_price(axes: Axes, price: Price, row: float, colour: str) -> Any:
    axes.plot([price.ratio.low, price.ratio.high], [row, row], color=colour, linewidth=1.2)
    axes.plot(price.quartiles, [row, row], color=colour, linewidth=4.5, alpha=0.45, solid_capstyle="butt")
    (mark,) = axes.plot(price.ratio.median, row, "o", color=colour, markersize=7)
    return mark


def _draw_bytes(axes: Axes, tax: Tax) -> dict[str, Any]:
    """Draws the bytes of every network with gates as ratios to those of its twin, prepared as users have it."""
    marks: dict[str, Any] = {}
    for row, price in enumerate(tax.prices):
        mine, twin = tax.network(price.way, gated=True), tax.network(price.twin, gated=False)
        for label, ours, theirs, shape, colour, offset in (
            ("bytes moved", mine.moved, twin.moved, "s", SERIES[2], -0.12),
            ("bytes kept for backward", mine.kept, twin.kept, "D", SERIES[3], 0.12),
        ):
            if ours is not None and theirs:
                (marks[label],) = axes.plot(ours / theirs, row + offset, shape, color=colour, markersize=7)
    axes.set_title("counted, SE / plain")
    return marks
