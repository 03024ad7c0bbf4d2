"""Choice of images from a set: the same ones for every seed, and as many of each class as can be."""

from __future__ import annotations

import torch
from torch import Tensor

from senet.errors import InputError
from senet.train.data.randomness import stream

__all__ = ["balanced", "held_out"]


def balanced(labels: Tensor, classes: tuple[str, ...], limit: int) -> Tensor:
    """Indices of at most ``limit`` images, the classes equally often (or one apart) while they last.

    Args:
        labels: ``(N,)`` int64.
        classes: class names.
        limit: how many images; at least one a class.

    Returns:
        ``(min(limit, N),)`` int64, ascending.

    Raises:
        InputError: fewer images than classes.
    """
    if limit < len(classes):
        raise InputError(f"data.limit is {limit}, fewer than the {len(classes)} classes; give at least that")
    turn = _rank_in_class(labels) * len(classes) + labels
    return turn.argsort()[:limit].sort().values


def held_out(labels: Tensor, classes: tuple[str, ...], fraction: float) -> Tensor:
    """Marks the images held out for validation: the same share of each class, at least one, never all.

    Args:
        labels: ``(N,)`` int64.
        classes: class names.
        fraction: share of each class, rounded.

    Returns:
        ``(N,)`` bool.

    Raises:
        InputError: the fraction is 0, or a class has only one image.
    """
    if fraction == 0:
        raise InputError("data.val_fraction is 0 and the folder has no val folder; give one or the other")
    counts = labels.bincount(minlength=len(classes))
    if counts.min() < 2:
        name = classes[int(counts.argmin())]
        raise InputError(f"class {name!r} has one image, none can be held out; add images, or a val folder")
    share = (counts * fraction).round().long().clamp(min=1).minimum(counts - 1)
    return _rank_in_class(labels) < share[labels]


def _rank_in_class(labels: Tensor) -> Tensor:
    """``(N,)`` int64: 0, 1, 2, ... over the images of each class, in a fixed random order."""
    shuffled = torch.from_numpy(stream("subset").permutation(len(labels)))
    ranks = torch.empty_like(labels)
    for label in labels.unique():
        members = shuffled[labels[shuffled] == label]
        ranks[members] = torch.arange(len(members))
    return ranks
