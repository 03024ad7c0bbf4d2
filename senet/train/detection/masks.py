"""Masks of objects, from COCO's polygons and run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from senet.errors import InputError
from senet.train.detection.require import require_evaluator

__all__ = ["decode_masks"]


def decode_masks(segments: Sequence[Any], height: int, width: int, *, where: str) -> Tensor:
    """Masks of an image's objects.

    Args:
        segments: for each a list of polygons, or run lengths, plain or packed.
        height: of the image in pixels.
        width: of the image in pixels.
        where: how an error calls the image.

    Returns:
        (n, height, width) uint8, 1 inside.

    Raises:
        InputError: an object has no mask, or one that cannot be read.
    """
    require_evaluator()
    from faster_coco_eval.core import mask

    found = []
    for number, segment in enumerate(segments):
        try:
            if isinstance(segment, list):
                packed = mask.merge(mask.frPyObjects(segment, height, width))
            elif isinstance(segment["counts"], list):
                packed = mask.frPyObjects(segment, height, width)
            else:
                packed = segment
            found.append(mask.decode(packed))
        except Exception as error:  # whatever a broken polygon leads the decoder to
            raise InputError(f"{where}: object {number} has no mask that can be read: {error}") from error
        if found[-1].shape != (height, width):
            raise InputError(f"{where}: object {number} has a mask of {found[-1].shape}; accepted: {(height, width)}")
    if not found:
        return torch.zeros(0, height, width, dtype=torch.uint8)
    return torch.from_numpy(np.ascontiguousarray(np.stack(found), np.uint8))
