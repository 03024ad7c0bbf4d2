"""Writes docs/packages.md from benchmarks/results/packages.jsonl. A test compares the page with this.

python tools/packages.py
"""

from __future__ import annotations

import runpy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "packages.md"
RESULTS = ROOT / "benchmarks" / "results" / "packages.jsonl"
# The same columns and words as of timm's and torchvision's networks
_shared = runpy.run_path(str(Path(__file__).with_name("architectures.py")))
HEAD = f"""# Networks of other packages with gates: fused, folded, recorded

Written by `tools/packages.py` from what `benchmarks/packages.py` measured; not by hand. They are a choice: networks of
the packages that most people take them from, some for sound and some for volumes; what fails is listed too.

{_shared["ASKED"]}"""


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """The page as Markdown, in the order of the networks' names."""
    rows = sorted(rows, key=lambda row: row["name"].lower())
    packages = sorted({f"{row['package']} {row['version']}" for row in rows}, key=str.lower)
    opening = f"{len(rows)} networks of {len(packages)} packages: {', '.join(packages)}."
    return HEAD + "\n" + "\n".join([opening, *_shared["summary"](rows), *_shared["table"]("network", rows), ""])


newest = partial(_shared["newest"], RESULTS)

if __name__ == "__main__":
    PAGE.write_text(page(newest()))
