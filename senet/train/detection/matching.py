"""Detections beside what is really there: found, missed, false."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

__all__ = ["Matches", "match"]


@dataclass(frozen=True)
class Matches:
    """Matches between the objects and the detections of an image, as indices.

    Attributes:
        found: detections that are of an object.
        false: detections that are of none.
        missed: objects that no detection is of.
    """

    found: list[int]
    false: list[int]
    missed: list[int]


def match(
    boxes: Tensor, labels: Tensor, true_boxes: Tensor, true_labels: Tensor, crowd: Tensor, *, least_iou: float = 0.5
) -> Matches:
    """Gives each detection, surest first, the object of its class that it overlaps most and that none has yet.

    Args:
        boxes: (n, 4) of the detections, surest first.
        labels: (n,) of the detections.
        true_boxes: (m, 4).
        true_labels: (m,).
        crowd: (m,) bool; a detection that lies half in one of these is neither found nor false.
        least_iou: how much of both, intersection over union, must be common.
    """
    overlap = box_iou(boxes, true_boxes)
    overlap[labels[:, None] != true_labels[None]] = 0
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    corners = (
        torch.minimum(boxes[:, None, 2:], true_boxes[:, 2:]),
        torch.maximum(boxes[:, None, :2], true_boxes[:, :2]),
    )
    inside = (corners[0] - corners[1]).clamp(min=0).prod(2) / area[:, None].clamp(min=1e-9)
    inside[:, ~crowd] = 0
    free = ~crowd
    found, false = [], []
    for index in range(len(boxes)):
        candidates = overlap[index] * free
        best = int(candidates.argmax()) if len(true_boxes) else -1
        if best >= 0 and candidates[best] >= least_iou:
            free[best] = False
            found.append(index)
        elif not len(true_boxes) or inside[index].max() < 0.5:
            false.append(index)
    return Matches(found, false, free.nonzero().flatten().tolist())
