"""Figures: inline SVG that takes the page's colours, so that one drawing fits light and dark, or files of their own."""

from __future__ import annotations

import hashlib
import html
import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from senet.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["INK", "SERIES", "Plot", "draw", "legend", "shorten"]

# Text and axes are drawn in this colour, which no plot uses otherwise, and written as `currentColor`.
INK = "#010203"

# After Okabe and Ito: told apart with any colour vision, and at least 3:1 against both white and near-black.
SERIES = ("#2a7fc9", "#d5650f", "#0f9173", "#b4569b", "#8a7a14", "#6d6fd1")

_STYLE: Any = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # letters stay letters there, too
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
    "legend.borderpad": 0.0,
}


@dataclass(frozen=True)
class Plot:
    """A figure to be drawn, in a page or as a file.

    Attributes:
        paint: is given ``columns`` axes and draws on them.
        width: of the figure, in CSS pixels at its natural size.
        height: likewise.
        title: what the figure shows, for readers who do not see it.
        columns: axes side by side, which share their y axis.
        key: names and colours of what is drawn, for a file; a page says it once for all its figures.
    """

    paint: Callable[..., None]
    width: int
    height: int
    title: str
    columns: int = 1
    key: Sequence[tuple[str, str]] = ()

    def inline(self) -> str:
        """An ``<svg>`` element whose ids are its own, so that several figures can share a page.

        The same data give the same text.

        Raises:
            InputError: matplotlib is not installed.
        """
        svg = self._saved(format="svg", metadata={"Date": None}).decode()
        return _inline(svg, self.width, self.height, self.title)

    def file(self, suffix: Literal["svg", "pdf"]) -> bytes:
        """The content of a file, dark on white; the same data give the same bytes.

        Raises:
            InputError: matplotlib is not installed.
        """
        date = {"svg": "Date", "pdf": "CreationDate"}[suffix]
        return self._saved(self.key, 0.6, format=suffix, metadata={date: None}, facecolor="white")

    def _saved(self, key: Sequence[tuple[str, str]] = (), margin: float = 0.0, **how: Any) -> bytes:
        try:
            import matplotlib
            from matplotlib.figure import Figure
            from matplotlib.layout_engine import ConstrainedLayoutEngine
            from matplotlib.lines import Line2D
        except ModuleNotFoundError as error:
            raise InputError(f"plots need {error.name}; pip install 'senet[plot]'") from error
        file = io.BytesIO()
        with matplotlib.rc_context({**_STYLE, "legend.borderaxespad": margin}), warnings.catch_warnings():
            # The browser draws the letters, with fonts that have what matplotlib's lack.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
            # SVG's unit here is 1/72 inch; taken as a CSS pixel.
            height = self.height + 19 * len(key)
            layout = ConstrainedLayoutEngine(h_pad=0.04 + margin / 6)
            figure = Figure(figsize=(self.width / 72, height / 72), layout=layout)
            axes = figure.subplots(1, self.columns, sharey=True, squeeze=False)[0]
            self.paint(*axes)
            if key:
                legend(axes[0], [Line2D([], [], color=colour) for _, colour in key], [name for name, _ in key])
            figure.savefig(file, **how)
        return file.getvalue()


def draw(paint: Callable[..., None], *, width: int, height: int, title: str, columns: int = 1) -> str:
    """A :class:`Plot` as an ``<svg>`` element; arguments and errors are its own."""
    return Plot(paint, width, height, title, columns).inline()


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
