"""The runs of small comparisons whose results the package holds."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from senet.recipes.small import SOURCES
from senet.recipes.table import Scale, Table
from senet.study.ledger import Ledger

__all__ = ["SEEDS", "evidence", "evidence_of", "lines_of"]

SEEDS = range(5)
"""Those that were run."""


def evidence() -> Mapping[str, Ledger]:
    """The results by source of images, where there are any; their files lie in ``senet/evidence``."""
    files = {source: _folder() / f"small-{source}.jsonl" for source in SOURCES}
    return {source: _ledger(path) for source, path in files.items() if path.is_file()}


def evidence_of(table: Table, own: Ledger | None = None) -> Mapping[tuple[str, Path], Mapping[str, int]]:
    """Returns the number of seeds of each arm by label, for every place where there are results of a table.

    Args:
        table: the table.
        own: results besides the package's, at any scale.

    Returns:
        Arms by source of images (``"the paper's"`` at its own scale) and file; files without any are left out.
    """
    found = {(source, ledger.path): lines_of(table, source) for source, ledger in evidence().items()}
    if own is not None:
        found |= {(source, own.path): _lines(table, "small", source, own) for source in SOURCES}
        found |= {("the paper's", own.path): _lines(table, "paper", None, own)}
    counts = {where: {label: len(lines) for label, lines in arms.items()} for where, arms in found.items()}
    return {where: arms for where, arms in counts.items() if any(arms.values())}


def lines_of(table: Table, source: str) -> Mapping[str, list[dict[str, Any]]]:
    """The package's results of a table's arms by label, each in the order of seeds."""
    return _lines(table, "small", source, evidence()[source])


def _lines(table: Table, scale: Scale, source: str | None, ledger: Ledger) -> Mapping[str, list[dict[str, Any]]]:
    """Those in a ledger; of a table without trainings at this scale nothing."""
    if not (table.small if scale == "small" else table.paper):
        return {}
    found = {}
    for arm, recipe in table.trainings(scale, source):
        lines = [ledger.find(recipe.override({"run.seed": seed})) for seed in SEEDS]
        found[arm.label] = [line for line in lines if line is not None]
    return found


def _folder() -> Path:
    return Path(str(resources.files("senet"))) / "evidence"


@functools.cache
def _ledger(path: Path) -> Ledger:
    return Ledger(path)
