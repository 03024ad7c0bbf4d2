"""Detectors: the paper's Table 7 on COCO (arXiv 1709.01507v4), and the same comparison small, on few small images.

Table 7 is Detectron's ``e2e_faster_rcnn_R-50-FPN_2x``: 180,000 steps of 16 images (8 GPUs, two each), a rate of 0.02
divided by ten after 120,000 and 160,000, the first 500 warming up from a third; images of 800 pixels, at most 1333;
stem and first stage of the ImageNet network frozen, its norms fixed, its stride in the 1x1 convolution. The paper does
not say that the detector has a pyramid; its baselines are those that Detectron has for one. Biases do not decay, which
is fixed in Detectron's code (``detectron/modeling/optimizer.py``).

Differs from the paper: 24 epochs of all 118,287 images of train2017 (177,408 steps), those without boxes among them,
where Detectron counts steps; biases learn at the rate of all, in Detectron at twice that; evaluated on val2017, which
are the 5,000 images of minival.
"""

from __future__ import annotations

from dataclasses import replace

from senet.models.detection.config import DetectorConfig
from senet.models.weights.caffe import PREPROCESSING
from senet.train.detection.recipe import DetectionData, DetectionRecipe
from senet.train.recipe import Model, Optim, Run, Schedule

__all__ = [
    "resnet18_small",
    "resnet50_fpn",
    "resnet101_fpn",
    "seresnet18_small",
    "seresnet50_fpn",
    "seresnet101_fpn",
]

_STEPS = 180_000


def _table7(name: str, network: str, weights: str | None) -> DetectionRecipe:
    return DetectionRecipe(
        f"detection.{name}",
        Model(network),
        DetectionData(batch_size=16, workers=8),
        Optim(lr=0.02, weight_decay=1e-4, norm_weight_decay=0.0),  # all norms are fixed: of biases
        Schedule(
            "step",
            epochs=24,
            milestones=(120_000 / _STEPS, 160_000 / _STEPS),
            warmup=500 / _STEPS,
            warmup_factor=1 / 3,
        ),
        Run(accumulate=8, save_every=1000),
        DetectorConfig(frozen=2, norm="frozen", mean=_three(PREPROCESSING.mean), std=_three(PREPROCESSING.std)),
        weights=weights,
    )


def _three(values: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue


def resnet50_fpn() -> DetectionRecipe:
    """Faster R-CNN over ResNet-50; its ImageNet weights are yours to give, as nobody has released the paper's.

    Published: 38.0 AP, 57.9 AP50 (arXiv 1709.01507v4, Table 7).
    Command: ``senet train detection.resnet50_fpn --data COCO --set weights=FILE --out runs/resnet50_fpn``
    """
    return _table7("resnet50_fpn", "resnet50_caffe", None)


def seresnet50_fpn() -> DetectionRecipe:
    """Faster R-CNN over SE-ResNet-50, from the authors' ImageNet weights.

    Published: 40.4 AP, 61.0 AP50 (arXiv 1709.01507v4, Table 7).
    Command: ``senet train detection.seresnet50_fpn --data COCO --out runs/seresnet50_fpn``
    """
    return _table7("seresnet50_fpn", "seresnet50_caffe", "in1k")


def resnet101_fpn() -> DetectionRecipe:
    """Faster R-CNN over ResNet-101, as :func:`resnet50_fpn`.

    Published: 39.9 AP, 60.1 AP50 (arXiv 1709.01507v4, Table 7).
    Command: ``senet train detection.resnet101_fpn --data COCO --set weights=FILE --out runs/resnet101_fpn``
    """
    return _table7("resnet101_fpn", "resnet101_caffe", None)


def seresnet101_fpn() -> DetectionRecipe:
    """Faster R-CNN over SE-ResNet-101, as :func:`seresnet50_fpn`.

    Published: 41.9 AP, 62.7 AP50 (arXiv 1709.01507v4, Table 7).
    Command: ``senet train detection.seresnet101_fpn --data COCO --out runs/seresnet101_fpn``
    """
    return _table7("seresnet101_fpn", "seresnet101_caffe", "in1k")


def resnet18_small() -> DetectionRecipe:
    """Faster R-CNN over ResNet-18 from fresh weights, on few images of 240 pixels: hours of a core, no GPU.

    The rate is of the detector tutorial of torchvision, for a batch of two; nothing is frozen, as nothing has learnt.
    Command: ``senet train detection.resnet18_small --data DIR --out runs/resnet18_small``
    """
    return DetectionRecipe(
        "detection.resnet18_small",
        Model("resnet18"),
        DetectionData(augment="flips", batch_size=4, lr_batch=2, workers=1),
        Optim(lr=0.005, weight_decay=5e-4, clip_grad_norm=10.0),
        Schedule("cosine", epochs=30, warmup=0.05),
        detector=DetectorConfig(
            min_size=240, max_size=400, fpn_channels=128, head_channels=256, proposals=300, regions=128
        ),
    )


def seresnet18_small() -> DetectionRecipe:
    """Faster R-CNN over SE-ResNet-18, as :func:`resnet18_small`.

    Command: ``senet train detection.seresnet18_small --data DIR --out runs/seresnet18_small``
    """
    plain = resnet18_small()
    return replace(plain, name="detection.seresnet18_small", model=replace(plain.model, name="seresnet18"))
