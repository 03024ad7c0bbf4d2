"""Fashion-MNIST: real images that a laptop learns in a minute.

Every recipe also takes any folder of class folders by ``--data``; its images are brought to 28x28 grey.
"""

from __future__ import annotations

from senet.train.recipe import Data, Model, Optim, Recipe, Schedule

__all__ = ["resnet8", "resnet20", "seresnet8", "seresnet20"]

_DATA = Data(source="fashion-mnist", channels=1, mean=(0.2860,), std=(0.3530,), size=28, pad=2, batch_size=128)


def _recipe(network: str) -> Recipe:
    return Recipe(
        f"fashion.{network}",
        Model(f"cifar_{network}"),
        _DATA,
        Optim(lr=0.1, weight_decay=5e-4, nesterov=True),
        Schedule("cosine", epochs=5, warmup=0.1),
    )


def resnet8() -> Recipe:
    """ResNet-8 on Fashion-MNIST, five epochs with a cosine schedule.

    Published: nothing for this network. The data set is near saturation: expect small differences.
    Command: ``senet train fashion.resnet8 --out runs/resnet8``
    """
    return _recipe("resnet8")


def seresnet8() -> Recipe:
    """SE-ResNet-8 on Fashion-MNIST, as :func:`resnet8`.

    Command: ``senet train fashion.seresnet8 --out runs/seresnet8``
    """
    return _recipe("seresnet8")


def resnet20() -> Recipe:
    """ResNet-20 on Fashion-MNIST, as :func:`resnet8`.

    Command: ``senet train fashion.resnet20 --out runs/resnet20``
    """
    return _recipe("resnet20")


def seresnet20() -> Recipe:
    """SE-ResNet-20 on Fashion-MNIST, as :func:`resnet8`.

    Command: ``senet train fashion.seresnet20 --out runs/seresnet20``
    """
    return _recipe("seresnet20")
