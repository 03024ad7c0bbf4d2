"""Average precision as the PASCAL VOC challenge counted it, which is not COCO's AP50."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

__all__ = ["voc_ap"]


def voc_ap(
    detections: Sequence[dict[str, Tensor]],
    targets: Sequence[dict[str, Tensor]],
    classes: Sequence[str],
    *,
    points: int | None = None,
    least_iou: float = 0.5,
) -> dict[str, float | None]:
    """VOC's average precision of each class, in percent; their mean is VOC's mAP.

    As the challenge's development kit: a detection belongs to the object of its class that it overlaps most, whether
    that has one already or not, and then counts as false; what is marked difficult counts neither way. COCO's would
    take the best object that is free, forgives crowds by another overlap, and reads precision at 101 recalls.

    Args:
        detections: of each image ``boxes`` (n, 4), ``labels`` (n,) and ``scores`` (n,).
        targets: of each image ``boxes`` (m, 4), ``labels`` (m,), and ``iscrowd`` (m,) for difficult.
        classes: names; label 1 is the first.
        points: None: the area below the precision at all recalls (VOC 2010 to 2012); 11: its mean at recalls of 0,
            0.1, ... 1 (VOC 2007).
        least_iou: intersection over union from which a box is found.

    Returns:
        For each class percent, or None where there is nothing to find.
    """
    return {
        name: _of_class(detections, targets, label, points, least_iou) for label, name in enumerate(classes, start=1)
    }


def _of_class(
    detections: Sequence[dict[str, Tensor]],
    targets: Sequence[dict[str, Tensor]],
    label: int,
    points: int | None,
    least_iou: float,
) -> float | None:
    scores, right, objects = [], [], 0
    for found, target in zip(detections, targets, strict=True):
        mine, there = found["labels"] == label, target["labels"] == label
        difficult = target["iscrowd"][there].bool()
        objects += int((~difficult).sum())
        order = found["scores"][mine].argsort(descending=True, stable=True)
        overlap = box_iou(found["boxes"][mine][order], target["boxes"][there])
        taken = torch.zeros(len(difficult), dtype=torch.bool)
        for score, row in zip(found["scores"][mine][order].tolist(), overlap, strict=True):
            best = int(row.argmax()) if len(row) else -1
            hit = best >= 0 and float(row[best]) >= least_iou
            if hit and difficult[best]:
                continue
            scores.append(score)
            right.append(hit and not taken[best])
            if hit:
                taken[best] = True
    if not objects:
        return None
    if not scores:
        return 0.0
    order = torch.tensor(scores, dtype=torch.float64).argsort(descending=True, stable=True)
    hits = torch.tensor(right, dtype=torch.float64)[order].cumsum(0)
    recall, precision = hits / objects, hits / torch.arange(1, len(hits) + 1)
    best_beyond = precision.flip(0).cummax(0).values.flip(0)  # the best precision at a recall or above it
    if points is None:
        steps = torch.cat([recall[:1], recall.diff()])
        return 100 * float((steps * best_beyond).sum())
    at = torch.searchsorted(recall, torch.linspace(0, 1, points, dtype=torch.float64) - 1e-12)
    padded = torch.cat([best_beyond, torch.zeros(1, dtype=torch.float64)])
    return 100 * float(padded[at].mean())
