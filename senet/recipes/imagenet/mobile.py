"""The paper's networks for phones (arXiv 1709.01507v4, Table 3): eight GPUs, batch 256, rate 0.1, about 400 epochs.

A tenth of the rate when the validation loss is on a plateau; weight decay 4e-5 (arXiv 1709.01507v3); "less aggressive"
augmentation, as for ShuffleNet (arXiv 1707.01083). How much less neither paper says: here crops have at least 20 % of
the image's area, as in PaddlePaddle's recipe of ShuffleNetV2, not 8 %.
"""

from __future__ import annotations

from dataclasses import replace

from senet.recipes.imagenet.common import DATA, EIGHT_GPUS, PLATEAU, with_se
from senet.train.recipe import Model, Optim, Recipe

__all__ = ["mobilenetv1", "semobilenetv1", "seshufflenet", "shufflenet"]


def _recipe(name: str, network: str) -> Recipe:
    return Recipe(
        f"imagenet.{name}",
        Model(network),
        replace(DATA, min_area=0.2),
        Optim(lr=0.1, weight_decay=4e-5),
        replace(PLATEAU, epochs=400),
        run=EIGHT_GPUS,
    )


def mobilenetv1() -> Recipe:
    """MobileNet of width 1 (arXiv 1704.04861), as the SE paper trained it again.

    Published: 28.4 / 9.4 % top-1 / top-5 error (arXiv 1709.01507v4, Table 3).
    Command: ``senet train imagenet.mobilenetv1 --data DIR --out runs/mobilenetv1``
    """
    return _recipe("mobilenetv1", "mobilenetv1_100")


def semobilenetv1() -> Recipe:
    """SE-MobileNet of width 1.

    Published: 25.3 / 7.7 % top-1 / top-5 error (arXiv 1709.01507v4, Table 3).
    Command: ``senet train imagenet.semobilenetv1 --data DIR --out runs/semobilenetv1``
    """
    return with_se(mobilenetv1())


def shufflenet() -> Recipe:
    """ShuffleNet 1x with 3 groups (arXiv 1707.01083), as the SE paper trained it again.

    Published: 32.6 / 12.5 % top-1 / top-5 error (arXiv 1709.01507v4, Table 3).
    Command: ``senet train imagenet.shufflenet --data DIR --out runs/shufflenet``
    """
    return _recipe("shufflenet", "shufflenet_g3")


def seshufflenet() -> Recipe:
    """SE-ShuffleNet 1x with 3 groups.

    Published: 31.0 / 11.1 % top-1 / top-5 error (arXiv 1709.01507v4, Table 3).
    Command: ``senet train imagenet.seshufflenet --data DIR --out runs/seshufflenet``
    """
    return with_se(shufflenet())
