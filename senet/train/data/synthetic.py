"""Images made up on the spot, which can be learned: for tests, and to see that a machine works."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from senet.train.data.image_set import ImageSet
from senet.train.recipe import Data

__all__ = ["make_split"]

_CLASSES = 10
_IMAGES = {"train": 2048, "val": 512}


def make_split(spec: Data, split: str) -> ImageSet:
    """2048 images to train on or 512 to validate with; the same at every call.

    Each class is a fixed pattern of low frequency; an image is its class's pattern under as much noise.
    """
    patterns = torch.randn(_CLASSES, spec.channels, 4, 4, generator=torch.Generator().manual_seed(0))
    patterns = transforms.resize(patterns, [spec.size, spec.size], antialias=True)
    noise = torch.Generator().manual_seed(1 + list(_IMAGES).index(split))
    labels = torch.arange(_IMAGES[split]) % _CLASSES
    images = torch.stack([_pixels(patterns[label], noise) for label in labels])
    names = tuple(f"pattern {label}" for label in range(_CLASSES))
    return ImageSet(split, names, labels, images, fitted=True)


def _pixels(pattern: Tensor, noise: torch.Generator) -> Tensor:
    grains = torch.randn(pattern.shape, generator=noise)
    return (128 + 40 * (pattern + grains)).clamp(0, 255).to(torch.uint8)
