"""The runs of small comparisons whose results the package holds."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from senet.recipes.small import SOURCES
from senet.recipes.table import Arm, Table
from senet.study.ledger import Ledger

__all__ = ["SEEDS", "evidence", "evidence_of", "lines_of"]

SEEDS = range(5)
"""Those that were run."""


def evidence() -> Mapping[str, Ledger]:
    """The results by source of images, where there are any; their files lie in ``senet/evidence``."""
    files = {source: _folder() / f"small-{source}.jsonl" for source in SOURCES}
    return {source: _ledger(path) for source, path in files.items() if path.is_file()}


def evidence_of(table: Table) -> Mapping[Path, Mapping[str, int]]:
    """The files with results of a table's small comparison, and in each the arms by label and how many seeds they have.

    A file that has none of them is left out.
    """
    found = {}
    for source, ledger in evidence().items():
        counts = {arm.label: len(lines_of(table, arm, source)) for arm in table.small}
        if any(counts.values()):
            found[ledger.path] = counts
    return found


def lines_of(table: Table, arm: Arm, source: str) -> list[dict[str, Any]]:
    """The results of an arm's runs on a source of images, by seed."""
    recipe = {known.label: its for known, its in table.trainings("small", source)}[arm.label]
    found = [evidence()[source].find(recipe.override({"run.seed": seed})) for seed in SEEDS]
    return [line for line in found if line is not None]


def _folder() -> Path:
    return Path(str(resources.files("senet"))) / "evidence"


@functools.cache
def _ledger(path: Path) -> Ledger:
    return Ledger(path)
