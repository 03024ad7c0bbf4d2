"""All pretrained weights by name: of networks trained here, in the package, and of others', on the hub."""

from __future__ import annotations

import fnmatch
from pathlib import Path

from senet.errors import InputError, did_you_mean
from senet.models.weights.hub import download, hub_weights
from senet.models.weights.own.records import own_file, own_weights
from senet.models.weights.weight import Weight

__all__ = ["fetch", "find_weight", "list_pretrained", "weights_of"]


def weights_of(name: str) -> tuple[Weight, ...]:
    """All pretrained weights of a network, the default first.

    First the hub's, of those timm's default; then the package's, in the order of
    :data:`senet.models.weights.own.records.TAGS`: ``"cifar10_jpeg"`` before ``"fashion_mnist"``.

    Args:
        name: a name from :func:`senet.list_models`.

    Returns:
        Empty where there are none.
    """
    return hub_weights().get(name, ()) + own_weights().get(name, ())


def list_pretrained(pattern: str = "*") -> list[str]:
    """The names of all pretrained weights that match a shell pattern, sorted: ``list_pretrained("seresnet50.*")``."""
    return sorted(fnmatch.filter([str(weight) for name in _names() for weight in weights_of(name)], pattern))


def find_weight(name: str, tag: str | None = None) -> Weight:
    """The weights of a network by their tag.

    Args:
        name: a name from :func:`senet.list_models`.
        tag: for example ``"a1_in1k"``; None for the default.

    Raises:
        InputError: there are none for this network, or none of this tag; names the nearest.
    """
    weights = {weight.tag: weight for weight in weights_of(name)}
    if not weights:
        near = did_you_mean(name, _names())
        raise InputError(f"{name!r} has no pretrained weights; train it, or give the path of a file of yours{near}")
    if tag is None:
        return next(iter(weights.values()))
    if tag not in weights:
        raise InputError(f"{name!r} has no pretrained weights called {tag!r}{did_you_mean(tag, weights)}")
    return weights[tag]


def fetch(weight: Weight) -> Path:
    """The file of weights: in the package, or in the hub's cache, downloaded if it is not there. Checked every time.

    Raises:
        InputError: as :func:`senet.models.weights.hub.download` and
            :func:`senet.models.weights.own.records.own_file` say.
    """
    return own_file(weight) if weight.hub is None else download(weight)


def _names() -> set[str]:
    return {*hub_weights(), *own_weights()}
