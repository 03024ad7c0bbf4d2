"""Places365: the paper's Table 6 (arXiv 1709.01507v4). Give ``--data DIR`` with ``DIR/train`` and ``DIR/val``.

The paper trains ResNet-152 with and without SE from scratch on Places365-Challenge (8 million images, 365 classes) and
evaluates on its 36,500 validation images: resized to 256 x 256 whatever their proportions, then the centre 224
(README of github.com/lishen-shirley/Places2-CNNs, whose protocol the paper follows).

Left open is all of the training; here it is that of the paper's Table 2 (:mod:`senet.recipes.imagenet.paper`), with 16
epochs, in which as many images are seen as in its 100 of ImageNet. Possibly different from the paper's: the protocol
of arXiv 1512.05830, which it names too, draws classes of different sizes equally often; here every image is drawn once
an epoch.

None of these recipes has been run to its end by us.
"""

from __future__ import annotations

from dataclasses import replace

from senet.recipes import imagenet
from senet.recipes.imagenet.common import with_se
from senet.train.recipe import Recipe

__all__ = ["resnet152", "seresnet152"]


def resnet152() -> Recipe:
    """ResNet-152 (arXiv 1512.03385), as the SE paper trained it.

    Published: 41.15 / 11.61 % top-1 / top-5 error (arXiv 1709.01507v4, Table 6).
    Command: ``senet train places365.resnet152 --data DIR --out runs/places_resnet152``
    """
    recipe = imagenet.resnet152()
    return replace(
        recipe,
        name="places365.resnet152",
        data=replace(recipe.data, squash=True),
        schedule=replace(recipe.schedule, epochs=16),
    )


def seresnet152() -> Recipe:
    """SE-ResNet-152.

    Published: 40.37 / 11.01 % top-1 / top-5 error (arXiv 1709.01507v4, Table 6).
    Command: ``senet train places365.seresnet152 --data DIR --out runs/places_seresnet152``
    """
    return with_se(resnet152())
