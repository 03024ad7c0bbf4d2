"""The augmentations of the recipes, each with its chance handed in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

__all__ = ["crop_flip", "cut_out", "jitter", "mix_up", "resized_crop", "rotate"]

_RATIOS = (3 / 4, 4 / 3)  # width to height, as in the Inception recipe
_TRIES = 10


def crop_flip(images: Tensor, chance: Tensor, *, pad: int) -> Tensor:
    """Pads with zeros, crops back to the size at random, and flips every second image left to right.

    The standard augmentation for CIFAR (He et al. 2015, section 4.2; Lee et al. 2015). The images are
    normalised already, so the zeros are the mean colour, as in the original code, which pads what the mean
    was subtracted from; torchvision's ``RandomCrop`` on the raw image would pad with black.

    Args:
        images: ``(N, channels, height, width)``, normalised.
        chance: ``(N, 3)`` in [0, 1): row, column, flip.
        pad: zeros on each side, in pixels; 0 leaves only the flip.

    Returns:
        The shape, dtype and device of ``images``.
    """
    if pad:
        height, width = images.shape[-2:]
        top, left = (chance[:, :2] * (2 * pad + 1)).long().unbind(1)
        windows = F.pad(images, (pad, pad, pad, pad)).unfold(2, height, 1).unfold(3, width, 1)
        images = windows[torch.arange(len(images), device=images.device), :, top, left]
    flip = chance[:, 2] < 0.5
    return torch.where(flip[:, None, None, None], images.flip(3), images)


def cut_out(images: Tensor, chance: Tensor, *, side: int) -> Tensor:
    """Cuts one square hole into each image (DeVries and Taylor, "Cutout", arXiv 1708.04552).

    Its centre is any pixel of the image, each as likely, so that parts of it may lie outside. The images are
    normalised already, so the hole has the mean colour, as in the authors' code.

    Differs from that code: an odd side is as long as it says, not one pixel shorter.

    Args:
        images: ``(N, channels, height, width)``, normalised.
        chance: ``(N, 2)`` in [0, 1): row and column of the centre.
        side: of the hole, in pixels. Of an even side, the centre is the pixel below and right of the middle.

    Returns:
        The shape, dtype and device of ``images``.
    """
    across = []
    for axis, size in enumerate(images.shape[-2:]):
        start = (chance[:, axis] * size).long() - side // 2
        offset = torch.arange(size, device=images.device) - start[:, None]
        across.append((offset >= 0) & (offset < side))
    rows, columns = across
    return images.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0)


def mix_up(images: Tensor, labels: Tensor, order: Tensor, *, share: float, classes: int) -> tuple[Tensor, Tensor]:
    """Mixes each image and its label with those of another (Zhang et al., "mixup", arXiv 1710.09412, eq. 1).

    Image i becomes ``share * image i + (1 - share) * image order[i]``, and its label the same mixture of one-hot
    vectors. The cross-entropy of that is the mixture of two cross-entropies, as the authors' code computes it.

    Args:
        images: ``(N, channels, height, width)``, normalised.
        labels: ``(N,)`` int64.
        order: ``(N,)`` int64, a permutation: each image's partner.
        share: of the image itself, from 0 to 1; the paper's lambda.
        classes: how many there are.

    Returns:
        The images, in the shape, dtype and device of ``images``, and the labels ``(N, classes)`` float32.
    """
    own = F.one_hot(labels, classes).float()
    mixed, shares = (share * first + (1 - share) * first[order] for first in (images, own))
    return mixed, shares


def resized_crop(
    image: Tensor, chance: np.random.Generator, *, size: int, min_area: float, interpolation: str = "bilinear"
) -> Tensor:
    """A random part of the image, resized to a square (Szegedy et al. 2014, arXiv:1409.4842, section 6).

    The part has a share of the area uniform in [min_area, 1] and a ratio of width to height log-uniform in
    [3/4, 4/3]. After ten parts that do not fit, the largest central one with an allowed ratio is taken, as
    torchvision's ``RandomResizedCrop`` does.

    Args:
        image: ``(channels, height, width)`` uint8.
        chance: decides.
        size: height and width of the result.
        min_area: smallest share of the area.
        interpolation: of the resize, ``"bilinear"`` or ``"bicubic"``, always with antialiasing.

    Returns:
        ``(channels, size, size)`` uint8.
    """
    top, left, height, width = _box(image.shape[1], image.shape[2], chance, min_area)
    mode = InterpolationMode(interpolation)
    return transforms.resized_crop(image, top, left, height, width, [size, size], mode, antialias=True)


def rotate(image: Tensor, chance: np.random.Generator, *, degrees: float, fill: Sequence[float]) -> Tensor:
    """Turns the image about its centre, by an angle that is uniform in [-degrees, degrees].

    Part of how the authors trained the networks they released (README of github.com/hujie-frank/SENet). Bilinear; the
    size stays, so the corners turn out of the image, and others are filled.

    Args:
        image: ``(channels, height, width)`` uint8.
        chance: decides.
        degrees: the largest angle, either way.
        fill: what lies beyond the image, a number of 0..255 for each channel.

    Returns:
        The shape and dtype of ``image``.
    """
    angle = float(chance.uniform(-degrees, degrees))
    # Zeros come in from beyond: the fill is made zero for the time. torchvision's own `fill` darkens the edge, whose
    # pixels it weighs twice by their share of the image.
    zero = torch.tensor(fill)[:, None, None]
    turned = transforms.rotate(image - zero, angle, InterpolationMode.BILINEAR) + zero
    return turned.round_().to(torch.uint8)


def jitter(image: Tensor, chance: np.random.Generator, *, most: int) -> Tensor:
    """Adds to every pixel of every channel its own whole number, each of -most..most as likely.

    Part of how the authors trained the networks they released (README of github.com/hujie-frank/SENet, issue 38).
    Differs from it, perhaps: pixels stay whole and in 0..255, of which the authors say nothing.

    Args:
        image: ``(channels, height, width)`` uint8.
        chance: decides.
        most: the largest number, either way, in steps of 0..255.

    Returns:
        The shape and dtype of ``image``.
    """
    noise = torch.from_numpy(chance.integers(-most, most, image.shape, np.int16, endpoint=True))
    return (image + noise).clamp_(0, 255).to(torch.uint8)


def _box(rows: int, columns: int, chance: np.random.Generator, min_area: float) -> tuple[int, int, int, int]:
    """Top, left, height and width of the part."""
    low, high = (math.log(ratio) for ratio in _RATIOS)
    for _ in range(_TRIES):
        area = rows * columns * chance.uniform(min_area, 1)
        ratio = math.exp(chance.uniform(low, high))
        height, width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < height <= rows and 0 < width <= columns:
            top, left = chance.integers(rows - height + 1), chance.integers(columns - width + 1)
            return int(top), int(left), height, width
    width = min(columns, max(1, round(rows * _RATIOS[1])))
    height = min(rows, max(1, round(columns / _RATIOS[0])))
    return (rows - height) // 2, (columns - width) // 2, height, width
