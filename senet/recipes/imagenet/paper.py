"""The paper's Table 2 (arXiv 1709.01507v4): 100 epochs, batch 1024, rate 0.6, a tenth of it every 30 epochs.

Networks with and without SE are trained in the same way. No label smoothing is mentioned, and there is none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from senet.recipes.imagenet.common import DATA, gpus, with_se
from senet.train.recipe import Model, Optim, Recipe, Schedule

__all__ = [
    "bn_inception",
    "inception_resnet_v2",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x4d",
    "sebn_inception",
    "seinception_resnet_v2",
    "seresnet50",
    "seresnet101",
    "seresnet152",
    "seresnext50_32x4d",
    "seresnext101_32x4d",
    "sevgg16_bn",
    "vgg16_bn",
]


def _recipe(name: str, network: str, *, weight_decay: float = 1e-4, **options: Any) -> Recipe:
    return Recipe(
        f"imagenet.{name}",
        Model(network, options),
        replace(DATA, batch_size=1024),
        Optim(lr=0.6, weight_decay=weight_decay),
        Schedule("step", epochs=100, milestones=(0.3, 0.6, 0.9)),
        run=gpus(32),
    )


def resnet50() -> Recipe:
    """ResNet-50 (arXiv 1512.03385), as the SE paper trained it again.

    Published: 24.80 / 7.48 % top-1 / top-5 error (arXiv 1709.01507v4, Table 2).
    Command: ``senet train imagenet.resnet50 --data DIR --out runs/resnet50``
    """
    return _recipe("resnet50", "resnet50_caffe")


def seresnet50() -> Recipe:
    """SE-ResNet-50.

    Published: 23.29 / 6.62 % top-1 / top-5 error (arXiv 1709.01507v4, Table 2).
    Command: ``senet train imagenet.seresnet50 --data DIR --out runs/seresnet50``
    """
    return with_se(resnet50())


def resnet101() -> Recipe:
    """ResNet-101 (arXiv 1512.03385), as the SE paper trained it again.

    Published: 23.17 / 6.52 % top-1 / top-5 error (arXiv 1709.01507v4, Table 2).
    Command: ``senet train imagenet.resnet101 --data DIR --out runs/resnet101``
    """
    return _recipe("resnet101", "resnet101_caffe")


def seresnet101() -> Recipe:
    """SE-ResNet-101.

    Published: 22.38 / 6.07 % top-1 / top-5 error (arXiv 1709.01507v4, Table 2).
    Command: ``senet train imagenet.seresnet101 --data DIR --out runs/seresnet101``
    """
    return with_se(resnet101())


def resnet152() -> Recipe:
    """ResNet-152 (arXiv 1512.03385), as the SE paper trained it again.

    Published: 22.42 / 6.34 % top-1 / top-5 error (arXiv 1709.01507v4, Table 2).
    Command: ``senet train imagenet.resnet152 --data DIR --out runs/resnet152``
    """
    return _recipe("resnet152", "resnet152_caffe")


def seresnet152() -> Recipe:
    """SE-ResNet-152.

    Published: 21.57 / 5.73 % top-1 / top-5 error (arXiv 1709.01507v4, Table 2).
    Command: ``senet train imagenet.seresnet152 --data DIR --out runs/seresnet152``
    """
    return with_se(resnet152())


def resnext50_32x4d() -> Recipe:
    """ResNeXt-50 32x4d (arXiv 1611.05431, also for the weight decay), as the SE paper trained it again.

    Published: 22.11 / 5.90 % top-1 / top-5 error (arXiv 1709.01507v4, Table 2).
    Command: ``senet train imagenet.resnext50_32x4d --data DIR --out runs/resnext50``
    """
    return _recipe("resnext50_32x4d", "resnext50_32x4d_caffe")


def seresnext50_32x4d() -> Recipe:
    """SE-ResNeXt-50 32x4d.

    Published: 21.10 / 5.49 % top-1 / top-5 error (arXiv 1709.01507v4, Table 2).
    Command: ``senet train imagenet.seresnext50_32x4d --data DIR --out runs/seresnext50``
    """
    return with_se(resnext50_32x4d())


def resnext101_32x4d() -> Recipe:
    """ResNeXt-101 32x4d (arXiv 1611.05431, also for the weight decay), as the SE paper trained it again.

    Published: 21.18 / 5.57 % top-1 / top-5 error (arXiv 1709.01507v4, Table 2).
    Command: ``senet train imagenet.resnext101_32x4d --data DIR --out runs/resnext101``
    """
    return _recipe("resnext101_32x4d", "resnext101_32x4d_caffe")


def seresnext101_32x4d() -> Recipe:
    """SE-ResNeXt-101 32x4d.

    Published: 20.70 / 5.01 % top-1 / top-5 error (arXiv 1709.01507v4, Table 2).
    Command: ``senet train imagenet.seresnext101_32x4d --data DIR --out runs/seresnext101``
    """
    return with_se(resnext101_32x4d())


def vgg16_bn() -> Recipe:
    """VGG-16 with batch norm (arXiv 1409.1556, also for weight decay 5e-4 and dropout 0.5, which the SE paper omits).

    Published: 27.02 / 8.81 % top-1 / top-5 error (arXiv 1709.01507v4, Table 2).
    Command: ``senet train imagenet.vgg16_bn --data DIR --out runs/vgg16``
    """
    return _recipe("vgg16_bn", "vgg16_bn", weight_decay=5e-4, drop_rate=0.5)


def sevgg16_bn() -> Recipe:
    """SE-VGG-16 with batch norm, as :func:`vgg16_bn`.

    Published: 25.22 / 7.70 % top-1 / top-5 error (arXiv 1709.01507v4, Table 2).
    Command: ``senet train imagenet.sevgg16_bn --data DIR --out runs/sevgg16``
    """
    return with_se(vgg16_bn())


def bn_inception() -> Recipe:
    """BN-Inception (arXiv 1502.03167), as the SE paper trained it again; without auxiliary classifiers.

    Published: 25.38 / 7.89 % top-1 / top-5 error (arXiv 1709.01507v4, Table 2).
    Command: ``senet train imagenet.bn_inception --data DIR --out runs/bn_inception``
    """
    return _recipe("bn_inception", "bn_inception", weight_decay=2e-4)


def sebn_inception() -> Recipe:
    """SE-BN-Inception.

    Published: 24.23 / 7.14 % top-1 / top-5 error (arXiv 1709.01507v4, Table 2).
    Command: ``senet train imagenet.sebn_inception --data DIR --out runs/sebn_inception``
    """
    return with_se(bn_inception())


def inception_resnet_v2() -> Recipe:
    """Inception-ResNet-v2 (arXiv 1602.07261) at 299 pixels, evaluated on the centre of images of 352.

    Weight decay 4e-5 and dropout 0.2 are those of its authors' code (TF-Slim); the SE paper names none.
    Differs from the paper: starts by PyTorch's default rule (see the network), not by He's; no auxiliary classifier.

    Published: 20.37 / 5.21 % top-1 / top-5 error (arXiv 1709.01507v4, Table 2).
    Command: ``senet train imagenet.inception_resnet_v2 --data DIR --out runs/inception_resnet_v2``
    """
    recipe = _recipe("inception_resnet_v2", "inception_resnet_v2", weight_decay=4e-5, drop_rate=0.2)
    return replace(recipe, data=replace(recipe.data, size=299, resize=352))


def seinception_resnet_v2() -> Recipe:
    """SE-Inception-ResNet-v2, as :func:`inception_resnet_v2`.

    Published: 19.80 / 4.79 % top-1 / top-5 error (arXiv 1709.01507v4, Table 2).
    Command: ``senet train imagenet.seinception_resnet_v2 --data DIR --out runs/seinception_resnet_v2``
    """
    return with_se(inception_resnet_v2())
