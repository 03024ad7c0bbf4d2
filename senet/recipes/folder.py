"""Photographs in class folders, at 224 pixels. Give the folder with ``--data``."""

from __future__ import annotations

from senet.train.recipe import Data, Model, Optim, Recipe, Run, Schedule

__all__ = ["resnet18", "resnet50", "seresnet18", "seresnet50"]

_DATA = Data(source="folder", size=224, resize=256, augment="resized-crop", batch_size=64)


def _recipe(network: str) -> Recipe:
    return Recipe(
        f"folder.{network}",
        Model(network),
        _DATA,
        Optim(lr=0.05, weight_decay=1e-4, nesterov=True),
        Schedule("cosine", epochs=90, warmup=5 / 90),
        run=Run(channels_last=True),
    )


def resnet18() -> Recipe:
    """ResNet-18, 90 epochs with a cosine schedule.

    Command: ``senet train folder.resnet18 --data DIR --out runs/resnet18``
    """
    return _recipe("resnet18")


def seresnet18() -> Recipe:
    """SE-ResNet-18, as :func:`resnet18`.

    Command: ``senet train folder.seresnet18 --data DIR --out runs/seresnet18``
    """
    return _recipe("seresnet18")


def resnet50() -> Recipe:
    """ResNet-50, as :func:`resnet18`.

    Command: ``senet train folder.resnet50 --data DIR --out runs/resnet50``
    """
    return _recipe("resnet50")


def seresnet50() -> Recipe:
    """SE-ResNet-50, as :func:`resnet18`.

    Command: ``senet train folder.seresnet50 --data DIR --out runs/seresnet50``
    """
    return _recipe("seresnet50")
