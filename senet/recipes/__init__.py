"""Recipes by name: each is a function whose docstring gives source, published result and command."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from senet.errors import InputError, did_you_mean
from senet.recipes import cifar, cifar100, detection, fashion, folder, imagenet, places365, synthetic
from senet.train.recipe import BaseRecipe

__all__ = ["RECIPES", "get_recipe"]

RECIPES: MappingProxyType[str, Callable[[], BaseRecipe]] = MappingProxyType(
    {
        f"{module.__name__.rpartition('.')[2]}.{name}": getattr(module, name)
        for module in (cifar, cifar100, detection, fashion, folder, imagenet, places365, synthetic)
        for name in module.__all__
    }
)


def get_recipe(name: str) -> BaseRecipe:
    """The recipe of a name.

    Raises:
        InputError: there is none; the nearest names are named.
    """
    if name not in RECIPES:
        raise InputError(f"no recipe is called {name!r}{did_you_mean(name, RECIPES)}")
    return RECIPES[name]()
