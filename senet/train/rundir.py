"""The folder of a run: which files it holds, when it may be used, and how its results are read.

A run's folder holds ``recipe.json`` (resolved), ``metrics.jsonl`` (a line an epoch), ``checkpoint.safetensors``
(everything needed to go on), ``best.safetensors`` and ``model.safetensors`` (weights of the best and of the last
epoch, with their recipe and classes) and, once the run is complete, ``summary.json``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from senet.errors import InputError
from senet.files import draft_of, write_whole
from senet.models import create_model
from senet.models.weights import load_into, read_tensors
from senet.options import flatten, to_plain
from senet.train.recipe import Model, Recipe

__all__ = [
    "RESUMABLE",
    "Trained",
    "build_model",
    "check_folder",
    "open_folder",
    "read_metrics",
    "read_run",
    "read_summary",
    "write_json",
]

# What may change when a run is resumed: it decides nothing about the weights. The images must be those that the
# checkpoint knows by their fingerprint, wherever they lie.
RESUMABLE = ("data.root", "data.workers", "run.log_every", "run.save_every", "run.tensorboard")
FILES = (
    "recipe.json",
    "metrics.jsonl",
    "checkpoint.safetensors",
    "best.safetensors",
    "model.safetensors",
    "summary.json",
)


@dataclass(frozen=True)
class Trained:
    """A trained network and what is needed to use it."""

    model: nn.Module  # in evaluation mode
    recipe: Recipe
    classes: tuple[str, ...]
    info: dict[str, Any]


def check_folder(out: Path, recipe: Recipe, *, resume: bool) -> None:
    """Refuses a folder that is not for this run, before any work is done; changes nothing.

    Raises:
        InputError: the folder holds a run already, a run of another recipe, or parts of one without its recipe.
    """
    saved = out / "recipe.json"
    if not saved.exists():
        orphans = [name for name in FILES if (out / name).exists()]
        if orphans:
            raise InputError(f"{out} holds {orphans[0]} of a run, but no recipe.json; name another folder with --out")
        return
    before = Recipe.load(saved)
    old, new = flatten(to_plain(before)), flatten(to_plain(recipe))
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key) and key not in RESUMABLE]
    if changed:
        differences = ", ".join(f"{key} {old.get(key)} -> {new.get(key)}" for key in changed[:5])
        raise InputError(
            f"{out} already holds a run of another recipe ({before.name}): {differences}; "
            "name another folder with --out"
        )
    if not resume:
        raise InputError(
            f"{out} already holds a run of this recipe; continue it with --resume, or name another folder with --out"
        )


def open_folder(out: Path, recipe: Recipe) -> None:
    """Makes the folder of a run, clears away what a killed run was just writing, and saves the recipe.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            draft_of(out / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write into {out}: {error.strerror}; name another folder with --out") from None
    write_json(out / "recipe.json", to_plain(recipe))


def write_json(path: Path, value: Any) -> None:
    """Writes JSON whole or not at all."""
    write_whole(path, (json.dumps(value, indent=2) + "\n").encode())


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """The complete lines of a run's metrics; a crash can have cut the last one off."""
    path = out / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text(errors="replace").splitlines(keepends=True)
    try:
        return [json.loads(line) for line in lines if line.endswith("\n")]
    except json.JSONDecodeError as error:
        raise InputError(f"{path} holds a line that is not JSON: {error}") from None


def read_summary(out: Path) -> dict[str, Any]:
    """The results of a complete run.

    Raises:
        InputError: the folder holds no run, or one that is not complete.
    """
    if not (out / "recipe.json").is_file():
        raise InputError(f"{out} holds no run; name a folder that `senet train --out` wrote")
    try:
        summary = json.loads((out / "summary.json").read_text(errors="replace"))
    except FileNotFoundError:
        raise InputError(f"the run in {out} is not complete; go on with it by `senet train --resume`") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{out / 'summary.json'} is not JSON: {error}") from None
    if not isinstance(summary, dict):
        raise InputError(f"{out / 'summary.json'} is no summary: {summary!r}")
    return {**summary, "run": str(out)}


def read_run(path: Path, *, weights: str = "model") -> Trained:
    """The network of a run.

    Args:
        path: the run's folder, or a weights file of one.
        weights: in a folder, ``"model"`` for the last epoch's weights or ``"best"``.

    Raises:
        InputError: there is no run, or its weights are no weights, are cut off, or belong to another network.
    """
    if weights not in ("model", "best"):
        raise InputError(f"weights is {weights!r}; accepted: 'model' (of the last epoch), 'best'")
    folder = path if path.is_dir() else None
    if folder is not None:
        if not (folder / "recipe.json").is_file():
            raise InputError(f"{folder} holds no run; name a folder that `senet train --out` wrote")
        path = folder / f"{weights}.safetensors"
        if not path.is_file():
            raise InputError(f"{folder} holds no {path.name}: its run has not finished an epoch")
    tensors, info = read_tensors(path)
    if not {"recipe", "classes"} <= info.keys():
        raise InputError(f"{path} holds no weights of a trained network; name model.safetensors or best.safetensors")
    trained = _build(tensors, info, what=str(path))
    if folder is None:
        return trained
    where = Recipe.load(folder / "recipe.json").data.root  # a run resumed with moved images knows where they are now
    return replace(trained, recipe=trained.recipe.override({"data.root": where}))


def _build(tensors: dict[str, Tensor], info: dict[str, Any], *, what: str) -> Trained:
    if not isinstance(info["classes"], list) or not all(isinstance(name, str) for name in info["classes"]):
        raise InputError(f"{what}: classes is {info['classes']!r}; accepted: a list of names")
    recipe = Recipe.from_plain(info["recipe"], what=f"the recipe in {what}")
    model = build_model(recipe.model, recipe.data.channels, len(info["classes"]))
    load_into(model, tensors, what=what)
    return Trained(model.eval(), recipe, tuple(info["classes"]), info)


def build_model(spec: Model, channels: int, num_classes: int) -> nn.Module:
    """The recipe's network for given data, with fresh weights."""
    own = sorted({"num_classes", "in_chans", "features_only", "out_indices"} & spec.options.keys())
    if own:
        raise InputError(f"model option {own[0]!r} follows from the data; leave it out")
    return create_model(spec.name, num_classes=num_classes, in_chans=channels, **spec.options)
