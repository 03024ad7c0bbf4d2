"""From pixels to what the network sees: the one implementation of evaluation preprocessing."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from senet.models.weights.preprocessing import Preprocessing

__all__ = ["Normalise", "fit", "to_input"]


def fit(images: Tensor, spec: Preprocessing) -> Tensor:
    """Resizes the shorter side, or with ``spec.squash`` both, to ``spec.resize`` or ``spec.size``; crops the centre.

    With antialiasing. Images that have the size already are returned as they are.

    Args:
        images: ``(..., channels, height, width)`` uint8.
        spec: gives the sizes.

    Returns:
        ``(..., channels, spec.size, spec.size)`` uint8.
    """
    side = spec.resize or spec.size
    interpolation = InterpolationMode(spec.interpolation)
    resized = transforms.resize(images, [side] * (2 if spec.squash else 1), interpolation, antialias=True)
    return transforms.center_crop(resized, [spec.size, spec.size])


class Normalise:
    """Pixels 0..255 to float32 with ``spec.mean`` subtracted and divided by ``spec.std``.

    Args:
        spec: gives mean and standard deviation of each channel, for pixels in 0..1.
        device: where the pixels lie.
    """

    def __init__(self, spec: Preprocessing, device: torch.device | None = None) -> None:
        self.mean = 255 * torch.tensor(spec.mean, device=device)[:, None, None]
        self.std = 255 * torch.tensor(spec.std, device=device)[:, None, None]

    def __call__(self, images: Tensor) -> Tensor:
        """``(..., channels, height, width)`` uint8 to the same in float32."""
        return images.to(torch.float32).sub_(self.mean).div_(self.std)


def to_input(image: Tensor, spec: Preprocessing) -> Tensor:
    """One image as the network sees it in evaluation.

    Args:
        image: ``(channels, height, width)`` uint8, as :func:`senet.train.data.read_image` returns it.
        spec: how the network was trained to see them.

    Returns:
        ``(channels, spec.size, spec.size)`` float32.
    """
    return Normalise(spec)(fit(image, spec))
