"""SENet-154, the network built for the ILSVRC 2017 challenge (arXiv 1709.01507v4, appendix).

64 GPUs, batch 2048, rate 1.0, dropout 0.2, label smoothing, batch norms frozen for the last few epochs.

Left open, and chosen here: epochs and drops of the rate (100, and after 30, 60, 90, as for Table 2), label smoothing
(0.1, as in arXiv 1512.00567), how long norms are frozen (the last 5 epochs), and what of them: mean and variance, which
are the parameters of a batch norm in the authors' Caffe; scale and shift, there a layer of their own, still learn.
"""

from __future__ import annotations

from dataclasses import replace

from senet.recipes.imagenet.common import DATA, gpus
from senet.train.recipe import Loss, Model, Optim, Recipe, Schedule

__all__ = ["senet154", "senet154_320"]


def senet154() -> Recipe:
    """SENet-154; its dropout is the network's own.

    Published: 18.68 / 4.47 % top-1 / top-5 error (arXiv 1709.01507v4, Table 8).
    Command: ``senet train imagenet.senet154 --data DIR --out runs/senet154``
    """
    return Recipe(
        "imagenet.senet154",
        Model("senet154_caffe"),
        replace(DATA, batch_size=2048),
        Optim(lr=1.0, weight_decay=1e-4),
        Schedule("step", epochs=100, milestones=(0.3, 0.6, 0.9), freeze_norms=0.95),
        loss=Loss(label_smoothing=0.1),
        run=gpus(64),
    )


def senet154_320() -> Recipe:
    """SENet-154 trained and evaluated at 320 pixels, after the challenge.

    Open is the resize before the crop of 320, here 366 pixels: in proportion to 256 and 224.

    Published: 16.88 / 3.58 % top-1 / top-5 error (arXiv 1709.01507v4, Table 9).
    Command: ``senet train imagenet.senet154_320 --data DIR --out runs/senet154_320``
    """
    recipe = senet154()
    return replace(recipe, name="imagenet.senet154_320", data=replace(recipe.data, size=320, resize=366))
