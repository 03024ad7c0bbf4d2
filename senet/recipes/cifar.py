"""CIFAR-10: the networks of the paper's Table 4 and their smaller relatives, each with its plain twin.

Every recipe also takes any folder of class folders by ``--data``; its images are brought to 32x32.
"""

from __future__ import annotations

from dataclasses import replace

from senet.train.recipe import Data, Model, Optim, Recipe, Run, Schedule

__all__ = [
    "preresnet110",
    "preresnet164",
    "resnet8",
    "resnet20",
    "resnet56",
    "resnet110",
    "sepreresnet110",
    "sepreresnet164",
    "seresnet8",
    "seresnet20",
    "seresnet56",
    "seresnet110",
    "seshake26_2x96d",
    "sewrn16_8",
    "shake26_2x96d",
    "wrn16_8",
]

_DATA = Data(
    source="cifar10",
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    size=32,
    batch_size=128,
)

# 64,000 iterations of 128 images, 390 an epoch, the rate divided by 10 at 32,000 and 48,000.
_SCHEDULE = Schedule("step", epochs=164, milestones=(0.5, 0.75))


def resnet8() -> Recipe:
    """ResNet-8 (arXiv 1512.03385, Sec. 4.2 with n = 1), with a short cosine schedule.

    Published: nothing; a network for trying things out.
    Command: ``senet train cifar.resnet8 --out runs/resnet8``
    """
    return Recipe(
        "cifar.resnet8",
        Model("cifar_resnet8"),
        _DATA,
        Optim(lr=0.1, weight_decay=5e-4, nesterov=True),
        Schedule("cosine", epochs=20, warmup=0.05),
    )


def seresnet8() -> Recipe:
    """SE-ResNet-8, as :func:`resnet8`.

    Command: ``senet train cifar.seresnet8 --out runs/seresnet8``
    """
    return _with_se(resnet8())


def resnet20() -> Recipe:
    """ResNet-20 (arXiv 1512.03385, Sec. 4.2 and Table 6): batch 128, rate 0.1, decay 1e-4, 64,000 iterations.

    Published: 8.75 % error with 0.27 M parameters (arXiv 1512.03385, Table 6).
    Command: ``senet train cifar.resnet20 --out runs/resnet20``
    """
    return Recipe("cifar.resnet20", Model("cifar_resnet20"), _DATA, Optim(lr=0.1, weight_decay=1e-4), _SCHEDULE)


def seresnet20() -> Recipe:
    """SE-ResNet-20, as :func:`resnet20`. The paper does not have it.

    Command: ``senet train cifar.seresnet20 --out runs/seresnet20``
    """
    return _with_se(resnet20())


def resnet56() -> Recipe:
    """ResNet-56, as :func:`resnet20`.

    Published: 6.97 % error with 0.85 M parameters (arXiv 1512.03385, Table 6).
    Command: ``senet train cifar.resnet56 --out runs/resnet56``
    """
    return _renamed(resnet20(), "resnet56")


def seresnet56() -> Recipe:
    """SE-ResNet-56, as :func:`resnet56`. The paper does not have it.

    Command: ``senet train cifar.seresnet56 --out runs/seresnet56``
    """
    return _with_se(resnet56())


def resnet110() -> Recipe:
    """ResNet-110 with post-activation units; its rate warms up over the first 400 iterations (arXiv 1512.03385).

    Published: 6.43 % error, best of five, 6.61 +/- 0.16 (arXiv 1512.03385, Table 6).
    Differs from the paper: which uses the pre-activation network, :func:`preresnet110`.
    Command: ``senet train cifar.resnet110 --out runs/resnet110``
    """
    recipe = _renamed(resnet20(), "resnet110")
    return replace(recipe, schedule=replace(recipe.schedule, warmup=400 / 64_000))


def seresnet110() -> Recipe:
    """SE-ResNet-110 with post-activation units, as :func:`resnet110`.

    Command: ``senet train cifar.seresnet110 --out runs/seresnet110``
    """
    return _with_se(resnet110())


def preresnet110() -> Recipe:
    """Pre-activation ResNet-110 (arXiv 1603.05027), the baseline of the paper's Tables 4 and 5.

    Published: 6.37 % error on CIFAR-10 (arXiv 1709.01507v4, Table 4).
    Command: ``senet train cifar.preresnet110 --out runs/preresnet110``
    """
    return _renamed(resnet110(), "preresnet110")


def sepreresnet110() -> Recipe:
    """SE-ResNet-110 of the paper's Tables 4 and 5.

    Published: 5.21 % error on CIFAR-10 (arXiv 1709.01507v4, Table 4).
    Command: ``senet train cifar.sepreresnet110 --out runs/sepreresnet110``
    """
    return _with_se(preresnet110())


def preresnet164() -> Recipe:
    """Pre-activation ResNet-164 with bottlenecks (arXiv 1603.05027).

    Published: 5.46 % error on CIFAR-10 (arXiv 1709.01507v4, Table 4).
    Command: ``senet train cifar.preresnet164 --out runs/preresnet164``
    """
    return _renamed(resnet110(), "preresnet164")


def sepreresnet164() -> Recipe:
    """SE-ResNet-164 of the paper's Tables 4 and 5.

    Published: 4.39 % error on CIFAR-10 (arXiv 1709.01507v4, Table 4).
    Command: ``senet train cifar.sepreresnet164 --out runs/sepreresnet164``
    """
    return _with_se(preresnet164())


def wrn16_8() -> Recipe:
    """Wide ResNet-16-8 (arXiv 1605.07146): batch 128, rate 0.1, divided by 5 after 60, 120 and 160 of 200 epochs.

    Published: 4.27 % error on CIFAR-10 (arXiv 1709.01507v4, Table 4).
    Differs from the authors' code: it pads with reflections; the SE paper says zeros.
    Command: ``senet train cifar.wrn16_8 --out runs/wrn16_8``
    """
    return Recipe(
        "cifar.wrn16_8",
        Model("cifar_wrn16_8"),
        _DATA,
        Optim(lr=0.1, weight_decay=5e-4, nesterov=True),
        Schedule("step", epochs=200, milestones=(0.3, 0.6, 0.8), gamma=0.2),
    )


def sewrn16_8() -> Recipe:
    """SE-WRN-16-8 of the paper's Tables 4 and 5.

    Published: 3.88 % error on CIFAR-10 (arXiv 1709.01507v4, Table 4).
    Command: ``senet train cifar.sewrn16_8 --out runs/sewrn16_8``
    """
    return _with_se(wrn16_8())


def shake26_2x96d() -> Recipe:
    """Shake-Shake 26 2x96d (arXiv 1705.07485) with Cutout of 16 pixels (arXiv 1708.04552): 1800 epochs, cosine.

    The author trained batches of 128 at rate 0.2 on two GPUs, so that norms saw 64 images: hence two micro-batches a
    step; on two processes give ``--set run.accumulate=1``.

    Published: 2.56 % error on CIFAR-10 (arXiv 1709.01507v4, Table 4; arXiv 1708.04552, Table 1).
    Command: ``senet train cifar.shake26_2x96d --out runs/shake26``
    """
    return Recipe(
        "cifar.shake26_2x96d",
        Model("cifar_shake26_2x96d"),
        replace(_DATA, cutout=16),
        Optim(lr=0.2, weight_decay=1e-4, nesterov=True),
        Schedule("cosine", epochs=1800),
        run=Run(accumulate=2),
    )


def seshake26_2x96d() -> Recipe:
    """SE-Shake-Shake 26 2x96d with Cutout, as :func:`shake26_2x96d`.

    Published: 2.12 % error on CIFAR-10 (arXiv 1709.01507v4, Table 4).
    Command: ``senet train cifar.seshake26_2x96d --out runs/seshake26``
    """
    return _with_se(shake26_2x96d())


def _renamed(recipe: Recipe, network: str) -> Recipe:
    return replace(recipe, name=f"cifar.{network}", model=Model(f"cifar_{network}"))


def _with_se(recipe: Recipe) -> Recipe:
    """The same training of the SE twin."""
    network = recipe.name.removeprefix("cifar.")
    return _renamed(recipe, f"se{network}")
