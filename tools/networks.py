"""Writes docs/networks.md: the catalogue as a page. A test compares the page with what this writes.

python tools/networks.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from senet.analysis.catalogue import Row, catalogue
from senet.models import list_models

PAGE = Path(__file__).parents[1] / "docs" / "networks.md"
HEAD = """# The networks

Written by `tools/networks.py` from the registry, `senet/published.toml`, `senet/models/weights/hub.toml` and the
records in `senet/models/weights/own`; not by hand. Parameters and multiply-adds are counted, not computed by a formula:
one image of the size given, on the meta device. The error is the published top-1 of one crop, in percent; a dash where
it was published of a variant only. Weights: how many there are, on the hub or in the package. `senet info NAME` says
more of each.

| network | px | parameters | multiply-adds | error, % | published in | weights | source |
|---|--:|--:|--:|--:|---|--:|---|
"""


def page(rows: Sequence[Row]) -> str:
    """The page as Markdown."""
    return HEAD + "".join(f"| {' | '.join(_cells(row))} |\n" for row in rows)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"`{row.name}`",
        row.px,
        f"{row.parameters:,}",
        f"{row.multiply_adds:,}",
        "-" if row.error is None else f"{row.error:.2f}",
        row.error_source or "-",
        str(len(row.weights) or "-"),
        row.source,
    )


if __name__ == "__main__":
    PAGE.write_text(page(catalogue(list_models())))
