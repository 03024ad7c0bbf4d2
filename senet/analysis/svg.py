"""Figures as inline SVG that takes the page's colours, so that one drawing fits light and dark."""

from __future__ import annotations

import hashlib
import html
import io
import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from senet.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["INK", "SERIES", "draw", "legend", "shorten"]

# Text and axes are drawn in this colour, which no plot uses otherwise, and written as `currentColor`.
INK = "#010203"

# After Okabe and Ito: told apart with any colour vision, and at least 3:1 against both white and near-black.
SERIES = ("#2a7fc9", "#d5650f", "#0f9173", "#b4569b", "#8a7a14", "#6d6fd1")

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "senet",
    "text.usetex": False,
    "text.parse_math": False,  # a $ in a name is a $
    "font.size": 13,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "grid.color": INK,
    "grid.alpha": 0.14,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.frameon": False,
    "legend.borderaxespad": 0.0,
    "legend.borderpad": 0.0,
}


def draw(paint: Callable[..., None], *, width: int, height: int, title: str, columns: int = 1) -> str:
    """Draws one figure.

    Its element ids are its own, so that several figures can share a page, and the same data give the same text.

    Args:
        paint: is given ``columns`` axes and draws on them.
        width: of the figure, in CSS pixels at its natural size.
        height: likewise.
        title: what the figure shows, for readers who do not see it.
        columns: axes side by side, which share their y axis.

    Returns:
        An ``<svg>`` element.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise InputError(f"plots need {error.name}; pip install 'senet[plot]'") from error
    file = io.StringIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The browser draws the letters, with fonts that have what matplotlib's lack.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        # SVG's unit here is 1/72 inch; taken as a CSS pixel.
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        axes = figure.subplots(1, columns, sharey=True, squeeze=False)[0]
        paint(*axes)
        figure.savefig(file, format="svg", metadata={"Date": None})
    return _inline(file.getvalue(), width, height, title)


def shorten(text: str, most: int = 20) -> str:
    """A name as a label: of limited length, on one line, without characters that cannot be shown."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return text if len(text) <= most else text[: most - 1] + "…"


def legend(axes: Axes, handles: list[Any], labels: list[str]) -> None:
    """A legend above the axes, left-aligned, a line for each label."""
    axes.figure.legend(handles, labels, loc="outside upper left", alignment="left", labelspacing=0.3)


def _inline(svg: str, width: int, height: int, title: str) -> str:
    prefix = "f" + hashlib.sha256((title + svg).encode()).hexdigest()[:10]
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    # matplotlib's own style sheet would hold for the whole page; what it says stands in the root element below.
    for unwanted in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r"<!--.*?-->"):
        body = re.sub(unwanted, "", body, flags=re.DOTALL)

    def own(tag: re.Match[str]) -> str:
        text = tag[0].replace(INK, "currentColor")
        return re.sub(r'(\bid="|\bxlink:href="#|\bhref="#|url\(#)', rf"\g<1>{prefix}-", text)

    body = re.sub(r"<[^>]+>", own, body)  # inside tags only: the text of labels is not touched
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'aria-labelledby="{prefix}-title" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'style="stroke-linejoin: round; stroke-linecap: butt">'
        f'<title id="{prefix}-title">{html.escape(title)}</title>{body.strip()}'
    )
