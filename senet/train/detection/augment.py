"""Random changes of images, which their boxes and masks follow (torchvision's transforms v2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from senet.train.data.randomness import stream

__all__ = ["change"]

_FLIP = v2.RandomHorizontalFlip(0.5)
_CHANGES: dict[str, list[nn.Module]] = {
    "none": [],
    "flip": [_FLIP],
    "flips": [_FLIP, v2.RandomVerticalFlip(0.5)],
    "crop-flip": [v2.RandomIoUCrop(), v2.SanitizeBoundingBoxes(min_size=1.0, min_area=4.0), _FLIP],
}


def change(
    image: Tensor, target: dict[str, Tensor], how: str, *, seed: int, epoch: int, index: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """An image and its target, changed by a chance that depends on these three numbers alone.

    Args:
        image: (3, H, W) uint8.
        target: ``boxes`` (n, 4), ``labels`` (n,), perhaps ``masks`` (n, H, W).
        how: ``data.augment`` of the recipe.
        seed: of the run.
        epoch: counted from 0.
        index: of the image in its split.
    """
    if not _CHANGES[how]:
        return image, target
    height, width = image.shape[-2:]
    wrapped: dict[str, Any] = dict(target)
    wrapped["boxes"] = tv_tensors.BoundingBoxes(
        target["boxes"], format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=(height, width)
    )
    if "masks" in target:
        wrapped["masks"] = tv_tensors.Mask(target["masks"])
    changed: Any = tv_tensors.Image(image)
    # torchvision's transforms draw from the global generator: seeded for the time, and given back as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream("image", seed=seed, epoch=epoch, index=index).integers(2**63)))
        for transform in _CHANGES[how]:
            changed, wrapped = transform(changed, wrapped)
    plain = {name: value.as_subclass(Tensor) for name, value in wrapped.items()}
    return changed.as_subclass(Tensor).contiguous(), plain
