"""The paper's comparisons at a scale that a laptop reaches: a minute to four a run, on one core.

One training for all of them, so that what differs between two arms is the network: 10,000 images, as many of each
class, five epochs in batches of 64, cosine schedule with a warm-up, crops and flips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from senet.recipes import cifar, cifar100, fashion
from senet.train.recipe import Data, Model, Optim, Recipe, Run, Schedule

__all__ = ["SOURCES", "small"]


def _any_folder() -> Data:
    return replace(cifar.resnet8().data, source="folder")


SOURCES: Mapping[str, Callable[[], Data]] = MappingProxyType(
    {
        "cifar10": lambda: cifar.resnet8().data,
        "cifar100": lambda: cifar100.wrn16_8().data,
        "fashion-mnist": lambda: fashion.resnet8().data,
        "folder": _any_folder,  # of class folders, at 32 pixels
    }
)
"""Images that the small comparisons can be made on."""


def small(model: Model, source: str = "cifar10") -> Recipe:
    """The training of a network in a small comparison.

    Args:
        model: the network.
        source: a key of :data:`SOURCES`.
    """
    return Recipe(
        f"small.{source}.{model.name}",
        model,
        replace(SOURCES[source](), batch_size=64, limit=10_000),
        Optim(lr=0.2, weight_decay=5e-4, nesterov=True),
        Schedule("cosine", epochs=5, warmup=0.1),
        run=Run(channels_last=True),
    )
