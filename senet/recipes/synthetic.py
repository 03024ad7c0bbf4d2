"""Made-up images that need no file: for trying the machinery out, and for nothing else."""

from __future__ import annotations

from senet.train.recipe import Data, Model, Optim, Recipe, Schedule

__all__ = ["resnet8", "seresnet8"]


def _recipe(network: str) -> Recipe:
    return Recipe(
        f"synthetic.{network}",
        Model(f"cifar_{network}"),
        Data(source="synthetic", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), size=32, batch_size=128),
        Optim(lr=0.1, nesterov=True),
        Schedule("cosine", epochs=2),
    )


def resnet8() -> Recipe:
    """ResNet-8 on made-up images.

    Command: ``senet train synthetic.resnet8 --out runs/try``
    """
    return _recipe("resnet8")


def seresnet8() -> Recipe:
    """SE-ResNet-8 on made-up images.

    Command: ``senet train synthetic.seresnet8 --out runs/try``
    """
    return _recipe("seresnet8")
