"""The report of a comparison: one HTML file that needs nothing else, the honest answer first."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from senet.analysis import page, wording
from senet.analysis.content import Example, Report
from senet.errors import InputError

__all__ = ["Example", "Report", "render"]


def render(report: Report, out: Path) -> None:
    """Writes the report as one HTML file: style, figures and images inside, no script, nothing loaded.

    The same report gives the same bytes. A file that is there is replaced whole or not at all.

    Args:
        report: what to write.
        out: the file.

    Raises:
        InputError: ``out`` cannot be written, or jinja2 or matplotlib is not installed.
    """
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise InputError(f"reports need {error.name}; pip install 'senet[plot]'") from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("senet.analysis"),
        autoescape=True,  # names of classes and paths come from anywhere
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=wording.count, percent=wording.percent, spread=wording.spread)
    html = environment.get_template("report.html.jinja").render(page.view(report))
    draft = out.with_name(f".{out.name}.tmp")
    try:
        # A path may hold bytes that are no text; they are shown as question marks.
        draft.write_bytes(html.encode("utf-8", "replace"))
        os.replace(draft, out)
    except OSError as error:
        with suppress(OSError):  # what is wrong with the place is said below
            draft.unlink()
        raise InputError(
            f"cannot write the report to {out}: {error.strerror}; give a file in a writable folder"
        ) from error
