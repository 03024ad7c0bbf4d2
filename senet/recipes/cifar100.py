"""CIFAR-100: the networks of the paper's Table 5, trained as those of :mod:`senet.recipes.cifar`."""

from __future__ import annotations

from dataclasses import replace

from senet.recipes import cifar
from senet.train.recipe import Model, Optim, Recipe

__all__ = [
    "preresnet110",
    "preresnet164",
    "sepreresnet110",
    "sepreresnet164",
    "seshake29_2x4x64d",
    "sewrn16_8",
    "shake29_2x4x64d",
    "wrn16_8",
]


def _on_cifar100(recipe: Recipe) -> Recipe:
    data = replace(recipe.data, source="cifar100", mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762))
    return replace(recipe, name=recipe.name.replace("cifar.", "cifar100."), data=data)


def preresnet110() -> Recipe:
    """Pre-activation ResNet-110 (arXiv 1603.05027) on CIFAR-100.

    Published: 26.88 % error (arXiv 1709.01507v4, Table 5).
    Command: ``senet train cifar100.preresnet110 --out runs/preresnet110``
    """
    return _on_cifar100(cifar.preresnet110())


def sepreresnet110() -> Recipe:
    """SE-ResNet-110 on CIFAR-100.

    Published: 23.85 % error (arXiv 1709.01507v4, Table 5).
    Command: ``senet train cifar100.sepreresnet110 --out runs/sepreresnet110``
    """
    return _on_cifar100(cifar.sepreresnet110())


def preresnet164() -> Recipe:
    """Pre-activation ResNet-164 (arXiv 1603.05027) on CIFAR-100.

    Published: 24.33 % error (arXiv 1709.01507v4, Table 5).
    Command: ``senet train cifar100.preresnet164 --out runs/preresnet164``
    """
    return _on_cifar100(cifar.preresnet164())


def sepreresnet164() -> Recipe:
    """SE-ResNet-164 on CIFAR-100.

    Published: 21.31 % error (arXiv 1709.01507v4, Table 5).
    Command: ``senet train cifar100.sepreresnet164 --out runs/sepreresnet164``
    """
    return _on_cifar100(cifar.sepreresnet164())


def wrn16_8() -> Recipe:
    """Wide ResNet-16-8 (arXiv 1605.07146) on CIFAR-100.

    Published: 20.43 % error (arXiv 1709.01507v4, Table 5).
    Command: ``senet train cifar100.wrn16_8 --out runs/wrn16_8``
    """
    return _on_cifar100(cifar.wrn16_8())


def sewrn16_8() -> Recipe:
    """SE-WRN-16-8 on CIFAR-100.

    Published: 19.14 % error (arXiv 1709.01507v4, Table 5).
    Command: ``senet train cifar100.sewrn16_8 --out runs/sewrn16_8``
    """
    return _on_cifar100(cifar.sewrn16_8())


def shake29_2x4x64d() -> Recipe:
    """Shake-Even 29 2x4x64d (arXiv 1705.07485) with Cutout of 8 pixels (arXiv 1708.04552): 1800 epochs, cosine.

    The author trained batches of 32 at rate 0.025 on two GPUs, so that norms saw 16 images: hence two micro-batches a
    step; on two processes give ``--set run.accumulate=1``.

    Published: 15.85 % error (arXiv 1709.01507v4, Table 5), which is the result without Cutout (arXiv 1705.07485,
    Table 2); with Cutout it is 15.20 % (arXiv 1708.04552, Table 1).
    Command: ``senet train cifar100.shake29_2x4x64d --out runs/shake29``
    """
    recipe = _on_cifar100(cifar.shake26_2x96d())
    return replace(
        recipe,
        name="cifar100.shake29_2x4x64d",
        model=Model("cifar_shake29_2x4x64d"),
        data=replace(recipe.data, batch_size=32, cutout=8),
        optim=Optim(lr=0.025, weight_decay=5e-4, nesterov=True),
    )


def seshake29_2x4x64d() -> Recipe:
    """SE-Shake-Even 29 2x4x64d with Cutout, as :func:`shake29_2x4x64d`.

    Published: 15.41 % error (arXiv 1709.01507v4, Table 5).
    Command: ``senet train cifar100.seshake29_2x4x64d --out runs/seshake29``
    """
    return replace(shake29_2x4x64d(), name="cifar100.seshake29_2x4x64d", model=Model("cifar_seshake29_2x4x64d"))
