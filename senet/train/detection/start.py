"""The weights that the training of a detector starts from, a function of the seed."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from senet.errors import InputError
from senet.models.detection.create import assemble, build_body, resolved
from senet.models.features import Features
from senet.models.registry import model_config
from senet.models.weights.files import load_into
from senet.train.detection.recipe import DetectionRecipe
from senet.train.recipe import Model
from senet.train.start import share_weights

if TYPE_CHECKING:
    from senet.models.detection.network import Detector

__all__ = ["build_detector", "initial_detector"]


def build_detector(recipe: DetectionRecipe, num_classes: int) -> Detector:
    """The recipe's detector, all weights fresh, frozen as it shall be: for weights that are loaded next."""
    model, config = recipe.model, resolved(recipe.detector, fresh=recipe.weights is None)
    body = build_body(model.name, model.options)
    return assemble(body, model.name, model.options, num_classes=num_classes, config=config)


def initial_detector(recipe: DetectionRecipe, num_classes: int) -> Detector:
    """The recipe's detector with the weights that a seed gives, and the backbone's own where it names some.

    A backbone with blocks starts with the weights of its plain twin wherever the twin has them, as does all that
    comes after it: of two arms of a comparison, shared weights are equal at the start. Sets PyTorch's global
    generator.

    Raises:
        InputError: what the recipe names cannot be built or had.
    """
    name, options, seed = recipe.model.name, recipe.model.options, recipe.run.seed
    torch.manual_seed(seed)
    config = model_config(name, options)
    if config.attn is None:
        detector = build_detector(recipe, num_classes)
    else:
        twin = build_detector(replace(recipe, model=_plain(recipe.model)), num_classes)
        detector = build_detector(recipe, num_classes)
        share_weights(detector, twin)
    if recipe.weights is not None:
        body, given = detector.backbone.body, build_body(name, options, pretrained=recipe.weights)
        _check_normalised(recipe, given)
        theirs = given.state_dict()
        # Frozen norms do not count batches.
        load_into(body, {key: theirs[key] for key in body.state_dict() if key in theirs}, what=recipe.weights)
    return detector


def _check_normalised(recipe: DetectionRecipe, body: Features) -> None:
    """Refuses weights that say they want other pixel values than the recipe makes: fixed norms would never adapt."""
    how = body.loaded and body.loaded.preprocessing
    if how is None:
        return
    for name in ("mean", "std"):
        ours, theirs = getattr(recipe.detector, name), getattr(how, name)
        if len(theirs) != len(ours) or not all(map(functools.partial(math.isclose, rel_tol=1e-4), ours, theirs)):
            wanted = ", ".join(f"{x:.6g}" for x in theirs)
            raise InputError(
                f"detector.{name} is {[round(x, 6) for x in ours]}, but weights={recipe.weights} were trained with "
                f"[{wanted}]; give --set 'detector.{name}=[{wanted}]'"
            )


def _plain(model: Model) -> Model:
    """The plain twin, as a name and options."""
    own = {key: value for key, value in model.options.items() if key not in ("attn_options", "stages", "placement")}
    return Model(model.name, {**own, "attn": None})
