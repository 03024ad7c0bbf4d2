"""The targets of a detector, refused where torchvision would train on nonsense without a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from senet.errors import InputError

__all__ = ["check_targets"]


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
        if missing := [name for name in ("boxes", "labels", *(["masks"] if masks else [])) if name not in target]:
            raise InputError(f"{where} lacks {', '.join(missing)}")
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
