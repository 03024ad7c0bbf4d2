"""Masks of objects, from COCO's polygons and run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from senet.errors import InputError
from senet.train.detection.boxes import MOST_PIXELS, is_pixel
from senet.train.detection.require import require_evaluator

__all__ = ["check_segments", "decode_masks"]


def check_segments(segments: Any, height: int, width: int, *, where: str) -> None:
    """Refuses an outline that the decoder would not; of a coordinate that is not a number it never comes back.

    Args:
        segments: a list of polygons, or run lengths, plain or packed.
        height: of the image in pixels.
        width: of the image in pixels.
        where: how an error calls the object.

    Raises:
        InputError: polygons of fewer than three corners, or of no finite numbers; run lengths for another size.
    """
    if isinstance(segments, list):
        for polygon in segments:
            if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2 or not all(map(is_pixel, polygon)):
                raise InputError(
                    f"{where}: a polygon is {str(polygon)[:60]}; accepted: x, y, x, y, ... of three corners or more, "
                    f"finite numbers of at most {MOST_PIXELS:,}"
                )
    elif not isinstance(segments, dict) or "counts" not in segments or segments.get("size") != [height, width]:
        raise InputError(
            f"{where}: segmentation is {str(segments)[:60]}; accepted: polygons, or run lengths with the size "
            f"{[height, width]} of the image, height first"
        )


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
