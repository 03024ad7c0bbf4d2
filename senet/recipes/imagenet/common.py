"""Parts shared by the recipes for ImageNet; :mod:`senet.recipes.imagenet` says which of it is published or chosen."""

from __future__ import annotations

from dataclasses import replace

from senet.models.weights.caffe import PREPROCESSING
from senet.train.recipe import Data, Recipe, Run, Schedule

__all__ = ["DATA", "EIGHT_GPUS", "PLATEAU", "gpus", "with_se"]

DATA = Data(
    source="folder",
    size=224,
    resize=256,
    mean=PREPROCESSING.mean,
    std=PREPROCESSING.std,
    augment="resized-crop",
    batch_size=256,
    workers=8,
)

# A tenth of the rate whenever the validation loss has been on a plateau.
PLATEAU = Schedule("plateau", epochs=300, patience=20)


def gpus(number: int) -> Run:
    """Replaces so many GPUs, with 32 images each, by gradient accumulation."""
    return Run(accumulate=number, channels_last=True)


EIGHT_GPUS = gpus(8)


def with_se(recipe: Recipe) -> Recipe:
    """The same training of the SE twin."""
    group, _, network = recipe.name.partition(".")
    return replace(recipe, name=f"{group}.se{network}", model=replace(recipe.model, name=f"se{recipe.model.name}"))
