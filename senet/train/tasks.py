"""The tasks by name, and recipes read from files, whatever task they are of."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from senet.errors import InputError, did_you_mean
from senet.models.weights.files import read_tensors
from senet.options import build
from senet.train.recipe import BaseRecipe, read_plain
from senet.train.task import Task

__all__ = ["load_recipe", "read_recipe", "task_in", "task_of"]

# Task -> the module and the class of its recipes, and of itself; imported when asked for, as each needs other packages.
_TASKS = {
    "classification": (("senet.train.recipe", "Recipe"), ("senet.train.classification", "Classification")),
    "detection": (("senet.train.detection.recipe", "DetectionRecipe"), ("senet.train.detection.task", "Detection")),
}
_DEFAULT = "classification"  # whose recipes do not say so


@functools.cache
def _get(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def task_of(recipe: BaseRecipe) -> Task[Any, Any]:
    """Returns the task that a recipe trains for."""
    task: Task[Any, Any] = _get(*_TASKS[recipe.task][1])()
    return task


def read_recipe(plain: Any, *, what: str = "recipe") -> BaseRecipe:
    """The recipe that :func:`senet.options.to_plain` took apart.

    Raises:
        InputError: it is none, or of a task that is not known.
    """
    name = plain.get("task", _DEFAULT) if isinstance(plain, Mapping) else _DEFAULT
    if not isinstance(name, str) or name not in _TASKS:
        raise InputError(f"{what} is of the task {name!r}{did_you_mean(str(name), _TASKS)}")
    recipe: BaseRecipe = build(_get(*_TASKS[name][0]), plain, what=what)
    return recipe


def task_in(what: str | Path) -> str:
    """The task of a run's folder or a file of weights; classification of whatever is neither."""
    path = Path(what)
    if (path / "recipe.json").is_file():
        return load_recipe(path / "recipe.json").task
    info = read_tensors(path)[1] if path.suffix == ".safetensors" and path.is_file() else {}
    return read_recipe(info["recipe"], what=f"the recipe in {path}").task if "recipe" in info else _DEFAULT


def load_recipe(path: Path) -> BaseRecipe:
    """Reads a recipe from the JSON of :func:`senet.options.to_plain`.

    Raises:
        InputError: the file is not a recipe.
    """
    return read_recipe(read_plain(path), what=f"the recipe {path}")
