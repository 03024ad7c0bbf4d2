"""Results of many runs as JSON lines: whole lines only, whenever a process was killed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from senet.errors import InputError
from senet.files import write_whole
from senet.options import flatten, to_plain
from senet.train.recipe import Recipe
from senet.train.rundir import RESUMABLE, settings_of

__all__ = ["Ledger", "deciding"]


class Ledger:
    """The results of finished cells, a line each, in the order in which they were finished.

    A line is a run's summary without its confusion matrix; and ``plain``, the whole recipe, with which
    :meth:`find` knows the cell again; ``history``, the metrics of every epoch; ``commit`` and ``threads``.

    Args:
        path: the file, which need not be there.

    Raises:
        InputError: the file holds a line that is no result.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = _read(path)
        recipes = [_recipe(line, path) for line in lines]
        # Of an older version, a line lacks the settings that recipes have got since.
        self.lines = [{**line, "settings": settings_of(recipe)} for line, recipe in zip(lines, recipes, strict=True)]
        self._known = [deciding(recipe) for recipe in recipes]  # kept, as finding compares with all of them

    def find(self, recipe: Recipe, images: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """The result of a training, or None where it has none.

        Args:
            recipe: what was trained, with its seed; its name, and where the images lie, decide nothing.
            images: the fingerprints of both splits; None: any images.
        """
        wanted = deciding(recipe)
        for line, known in zip(self.lines, self._known, strict=True):
            if known == wanted and images in (None, line["images"]):
                return line
        return None

    def add(self, line: Mapping[str, Any]) -> None:
        """Writes a result at the end, and brings it to the disk."""
        if not self.lines or not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, b"")
        elif not self.path.read_bytes().endswith(b"\n"):  # a killed process has left half a line
            write_whole(self.path, "".join(json.dumps(known) + "\n" for known in self.lines).encode())
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines.append(dict(line))
        self._known.append(deciding(_recipe(line, self.path)))


def deciding(recipe: Recipe) -> dict[str, Any]:
    """Returns the settings that decide the weights, with the seed: two trainings with equal ones are the same."""
    return {name: value for name, value in flatten(to_plain(recipe)).items() if name not in ("name", *RESUMABLE)}


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    try:
        return [json.loads(line) for line in lines if line.endswith("\n")]
    except json.JSONDecodeError as error:
        raise InputError(f"{path} holds a line that is not JSON: {error}; repair it, or name another folder") from None


def _recipe(line: Mapping[str, Any], path: Path) -> Recipe:
    if "plain" not in line:
        raise InputError(f"{path} holds a line without a recipe ('plain'), which no grid wrote; name another folder")
    return Recipe.from_plain(line["plain"], what=f"a recipe in {path}")
