"""Images and targets of a detector, refused where torchvision would take nonsense without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from senet.errors import InputError

__all__ = ["check_images", "check_targets"]


def check_images(images: Sequence[Tensor], max_size: int) -> None:
    """Refuses images that a detector cannot see; torchvision 0.29 would take a grey one as three channels.

    Args:
        images: (3, H, W) each, floating point, in 0..1; values are not looked at.
        max_size: of the detector; a longer side is made that long, and of the shorter one a pixel must be left.

    Raises:
        InputError: names the image and what is wrong with it.
    """
    if not len(images):
        raise InputError("a detector was given no images; give at least one")
    for number, image in enumerate(images):
        if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
            raise InputError(f"image {number} is {_said(image)}; accepted: floats (3, H, W) in 0..1, in a list")
        short, long = sorted(image.shape[-2:])
        if short * max_size < max(long, 1):
            raise InputError(
                f"image {number} is {image.shape[-1]} x {image.shape[-2]} pixels, and of its shorter side nothing is "
                f"left at max_size={max_size}; crop it"
            )


def check_targets(
    images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]] | None, num_classes: int, *, masks: bool
) -> None:
    """Refuses targets that cannot be learnt from.

    torchvision 0.29 trains on a coordinate that is not a number (its losses then are none), on boxes outside of the
    image (they spoil the loss of the proposals) and on the label 0 (a class that is never found).

    Args:
        images: (3, H, W) each.
        targets: for each image ``boxes`` (n, 4), left, top, right, bottom in pixels; ``labels`` (n,) int64 from 1 to
            ``num_classes``; with masks ``masks`` (n, H, W).
        num_classes: without the background.
        masks: whether they are learnt.

    Raises:
        InputError: names the image, the box and what is wrong with it.
    """
    if targets is None:
        raise InputError("a detector in training mode needs targets; give them, or call .eval() for detections")
    if len(images) != len(targets):
        raise InputError(f"{len(images)} images have {len(targets)} targets; give each its own")
    for number, (image, target) in enumerate(zip(images, targets, strict=True)):
        where = f"target {number}"
        wanted = ("boxes", "labels", *(["masks"] if masks else []))
        if not isinstance(target, Mapping):
            raise InputError(f"{where} is {_said(target)}; accepted: {', '.join(wanted)} by name")
        if missing := [name for name in wanted if name not in target]:
            raise InputError(f"{where} lacks {', '.join(missing)}")
        if other := [name for name in wanted if not isinstance(target[name], Tensor)]:
            raise InputError(f"{where}: {other[0]} are {_said(target[other[0]])}; accepted: a tensor")
        boxes, labels = target["boxes"], target["labels"]
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
            raise InputError(f"{where}: boxes are {boxes.dtype} {tuple(boxes.shape)}; accepted: floats (n, 4)")
        if labels.dtype != torch.int64 or labels.shape != boxes.shape[:1]:
            raise InputError(
                f"{where}: labels are {labels.dtype} {tuple(labels.shape)}; accepted: int64, one for each of "
                f"{len(boxes)} boxes"
            )
        height, width = image.shape[-2:]
        if masks and target["masks"].shape != (len(boxes), height, width):
            shape = tuple(target["masks"].shape)
            raise InputError(f"{where}: masks are {shape}; accepted: ({len(boxes)}, {height}, {width})")
        size = boxes.new_tensor([width, height])
        inside = (boxes[:, 2:] > 0).all(1) & (boxes[:, :2] < size).all(1)
        good = boxes.isfinite().all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1) & inside
        good &= (labels >= 1) & (labels <= num_classes)
        if not good.all():
            bad = int((~good).nonzero()[0])
            raise InputError(
                f"{where}: box {bad} is {[round(x, 2) for x in boxes[bad].tolist()]} with label {int(labels[bad])}; "
                f"accepted: finite left < right and top < bottom, some of it in the image of {width} x {height} "
                f"pixels, labels 1 to {num_classes} (0 is the background)"
            )


def _said(given: object) -> str:
    return f"{given.dtype} {tuple(given.shape)}" if isinstance(given, Tensor) else type(given).__name__
