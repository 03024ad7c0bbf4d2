"""A trained network with what is needed to use it: of a run, of a file of weights, or by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from senet.errors import InputError, did_you_mean
from senet.models import create_model
from senet.models.net import Net
from senet.models.registry import MODELS, build
from senet.models.weights.caffe import ilsvrc2012_synsets
from senet.models.weights.files import load_into, read_tensors
from senet.models.weights.layouts.reading import is_file_name
from senet.models.weights.loading import origin_of
from senet.models.weights.preprocessing import Preprocessing
from senet.models.weights.pretrained import fetch, find_weight
from senet.models.weights.pruned import as_pruned
from senet.options import build as build_value
from senet.options import override, to_plain
from senet.train.recipe import Data, Recipe
from senet.train.rundir import build_model
from senet.train.tasks import load_recipe, read_recipe

__all__ = ["Trained", "read_trained"]

_HOW = {field.name for field in fields(Preprocessing)} | {"batch_size", "workers", "cache"}


@dataclass(frozen=True)
class Trained:
    """A trained network and what is needed to use it.

    Attributes:
        model: in evaluation mode.
        data: how images are brought to it and, of a run, which ones it was trained on.
        classes: their names; a number each where nobody says them.
        named: whether somebody says them.
        recipe: of a run; None for weights that others have trained.
        info: what the file says besides.
    """

    model: Net
    data: Data
    classes: tuple[str, ...]
    recipe: Recipe | None
    info: dict[str, Any]
    named: bool = True


def read_trained(what: str | Path, *, weights: str = "model", changes: Mapping[str, Any] | None = None) -> Trained:
    """A trained network.

    Args:
        what: a run's folder; a file of weights, of a run or written by ``senet convert``; or a network with weights in
            the package or on the hub, ``"cifar_seresnet8"`` for the default ones, ``"seresnet50.a1_in1k"`` for those of
            a tag.
        weights: in a folder, ``"model"`` for the last epoch's weights or ``"best"``.
        changes: of how images are brought to it: fields of :class:`Preprocessing`, ``{"size": 320}``, and
            ``batch_size``, ``workers`` and ``cache``.

    Raises:
        InputError: there is no such thing, or its weights are no weights, are cut off, or belong to another network.
    """
    if weights not in ("model", "best"):
        raise InputError(f"weights is {weights!r}; accepted: 'model' (of the last epoch), 'best'")
    path, changes = Path(what), dict(changes or {})
    if unknown := changes.keys() - _HOW:
        name = min(unknown)
        raise InputError(f"how images reach a network has no field {name!r}{did_you_mean(name, _HOW)}")
    if not path.is_dir() and weights != "model":
        raise InputError(f"weights is {weights!r}, but {what} is no run's folder; leave it out")
    if path.is_dir():
        trained = _of_folder(path, weights)
    elif path.exists() or is_file_name(str(what)):
        trained = _of_file(path, says_how=changes.keys() >= {"size", "mean", "std"})
    else:
        trained = _of_name(str(what))
    trained = replace(trained, data=override(trained.data, changes, what="preprocessing"))
    channels = trained.model.config.in_chans
    if trained.data.channels != channels:
        given = trained.data.channels
        raise InputError(f"{what} takes images of {channels} channels, not {given}; give channels, mean and std of its")
    return trained


def _of_folder(folder: Path, weights: str) -> Trained:
    if not (folder / "recipe.json").is_file():
        raise InputError(f"{folder} holds no run; name a folder that `senet train --out` wrote")
    path = folder / f"{weights}.safetensors"
    if not path.is_file():
        raise InputError(f"{folder} holds no {path.name}: its run has not finished an epoch")
    trained = _of_file(path, says_how=False)
    where = load_recipe(folder / "recipe.json").data.root  # a run resumed with moved images knows where they are now
    return replace(trained, data=replace(trained.data, root=where))


def _of_file(path: Path, *, says_how: bool) -> Trained:
    tensors, info = read_tensors(path)
    if {"recipe", "classes"} <= info.keys():
        return _of_run(tensors, info, what=str(path))
    origin = origin_of(info)
    if origin is None or "param_groups" in info:
        raise InputError(f"{path} holds no weights of a trained network; name model.safetensors or best.safetensors")
    if info.get("preprocessing") is None and not says_how:
        raise InputError(
            f"{path} does not say how images are brought to it; say so by --set size=224 --set 'mean=[0.485, ...]' "
            "--set 'std=[0.229, ...]', or convert it again with --like"
        )
    model = build(*origin)
    with as_pruned(model, info, tensors, what=str(path)):
        load_into(model, tensors, what=str(path))
    preprocessing = build_value(Preprocessing, info.get("preprocessing") or {}, what=f"the preprocessing in {path}")
    return _of_others(model, preprocessing, info.get("classes"), info)


def _of_run(tensors: dict[str, Tensor], info: dict[str, Any], *, what: str) -> Trained:
    if not isinstance(info["classes"], list) or not all(isinstance(name, str) for name in info["classes"]):
        raise InputError(f"{what}: classes is {info['classes']!r}; accepted: a list of names")
    recipe = read_recipe(info["recipe"], what=f"the recipe in {what}")
    if not isinstance(recipe, Recipe):
        raise InputError(f"{what} is of a {recipe.task} training; here a classifier is wanted")
    model = build_model(recipe.model, recipe.data.channels, len(info["classes"]))
    with as_pruned(model, info, tensors, what=what):
        load_into(model, tensors, what=what)
    return Trained(model.eval(), recipe.data, tuple(info["classes"]), recipe, info)


def _of_name(what: str) -> Trained:
    name, _, tag = what.partition(".")
    if name not in MODELS:
        raise InputError(f"{what} is no run, file or network{did_you_mean(name, MODELS)}")
    weight = find_weight(name, tag or None)
    if weight.hub is None:
        return _of_file(fetch(weight), says_how=False)
    if not weight.num_classes:
        raise InputError(f"{weight} has no classifier; take it as a backbone by create_model, or name other weights")
    model = create_model(name, pretrained=weight.tag)
    assert isinstance(model, Net)
    imagenet = weight.num_classes == len(ilsvrc2012_synsets())
    info = {"model": name, "options": {"num_classes": model.config.num_classes}, "weights": str(weight)}
    return _of_others(model, weight.preprocessing, sorted(ilsvrc2012_synsets()) if imagenet else None, info)


def _of_others(model: Net, preprocessing: Preprocessing, classes: list[str] | None, info: dict[str, Any]) -> Trained:
    how: dict[str, Any] = to_plain(preprocessing)
    data = override(Data("folder", augment="none"), how, what="preprocessing")
    outputs = range(model.config.num_classes)
    names = tuple(str(name) for name in classes or outputs)
    return Trained(model.eval(), data, names, None, info, named=classes is not None)
