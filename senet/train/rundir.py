"""The folder of a run: which files it holds, when it may be used, and how its results are read.

A run's folder holds ``recipe.json`` (resolved), ``metrics.jsonl`` (a line an epoch), ``checkpoint.safetensors``
(everything needed to go on), ``best.safetensors`` and ``model.safetensors`` (weights of the best and of the last
epoch, with their recipe and classes) and, once the run is complete, ``summary.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from senet.errors import InputError
from senet.files import draft_of, write_whole
from senet.models.net import Net
from senet.models.registry import build
from senet.options import flatten, to_plain
from senet.train.recipe import BaseRecipe, Model
from senet.train.tasks import load_recipe

__all__ = [
    "RESUMABLE",
    "build_model",
    "check_folder",
    "open_folder",
    "read_metrics",
    "read_summary",
    "settings_of",
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


def check_folder(out: Path, recipe: BaseRecipe, *, resume: bool) -> None:
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
    before = load_recipe(saved)
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


def open_folder(out: Path, recipe: BaseRecipe) -> None:
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
    # Written by an older version, the summary lacks the fields that recipes have got since.
    return {**summary, "run": str(out), "settings": settings_of(load_recipe(out / "recipe.json"))}


def settings_of(recipe: BaseRecipe) -> dict[str, Any]:
    """Returns the settings that decide a result, except network, epochs, seed and images, which summaries name."""
    named = {"name", "model.name", "schedule.epochs", "run.seed", *RESUMABLE}
    return {name: value for name, value in flatten(to_plain(recipe)).items() if name not in named}


def build_model(spec: Model, channels: int, num_classes: int) -> Net:
    """The recipe's network for given data, with fresh weights."""
    own = sorted({"num_classes", "in_chans", "features_only", "out_indices"} & spec.options.keys())
    if own:
        raise InputError(f"model option {own[0]!r} follows from the data; leave it out")
    if "pretrained" in spec.options:  # a run that is read back must not need the file it began with
        raise InputError("model option 'pretrained' is no part of a network, and a recipe starts from fresh weights")
    return build(spec.name, {"num_classes": num_classes, "in_chans": channels, **spec.options})
