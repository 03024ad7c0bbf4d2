"""The report of a comparison: one HTML file that needs nothing else, the honest answer first."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from senet.analysis import page, wording
from senet.analysis.content import Example, Report
from senet.errors import InputError
from senet.files import write_whole

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
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("senet.analysis"),
        autoescape=True,  # names of classes and paths come from anywhere
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=wording.count, percent=wording.percent, spread=wording.spread)
    html = environment.get_template("report.html.jinja").render(page.view(report))
    if out.is_dir():
        raise InputError(f"{out} is a folder; name the file to write")
    # A path may hold bytes that are no text; they are shown as question marks.
    write_whole(out, html.encode("utf-8", "replace"))


def require_plotting() -> None:
    """Refuses to begin where what draws the page is not installed.

    Raises:
        InputError: says what to install.
    """
    for package in ("jinja2", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"reports need {package}; pip install 'senet[plot]'")
