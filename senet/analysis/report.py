"""The report of a comparison: one HTML file that needs nothing else, the honest answer first."""

from __future__ import annotations

from pathlib import Path

from senet.analysis import page
from senet.analysis.content import Example, Report
from senet.analysis.html import require_plotting, write_page

__all__ = ["Example", "Report", "render", "require_plotting"]


def render(report: Report, out: Path) -> None:
    """Writes the report as one HTML file: style, figures and images inside, no script, nothing loaded.

    The same report gives the same bytes. A file that is there is replaced whole or not at all.

    Args:
        report: what to write.
        out: the file.

    Raises:
        InputError: ``out`` cannot be written, or jinja2 or matplotlib is not installed.
    """
    require_plotting()
    write_page("report.html.jinja", page.view(report), out)
