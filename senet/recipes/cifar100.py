"""CIFAR-100: the networks of the paper's Table 5, trained as those of :mod:`senet.recipes.cifar`."""

from __future__ import annotations

from dataclasses import replace

from senet.recipes import cifar
from senet.train.recipe import Recipe

__all__ = ["preresnet110", "preresnet164", "sepreresnet110", "sepreresnet164"]


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
