"""Average precision, as COCO counts it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor, nn
from torchmetrics.detection import MeanAveragePrecision

from senet.train.detection.require import require_evaluator

__all__ = ["DetectionScore", "average_precision", "evaluate"]

_NAMES = {
    "ap": "map", "ap50": "map_50", "ap75": "map_75", "ap_small": "map_small", "ap_medium": "map_medium",
    "ap_large": "map_large", "ar1": "mar_1", "ar10": "mar_10", "ar100": "mar_100",
}  # fmt: skip


# What torchmetrics' metric holds: a list for each, an entry an image.
_STATES = (
    "detection_box", "detection_mask", "detection_scores", "detection_labels", "groundtruth_box", "groundtruth_mask",
    "groundtruth_labels", "groundtruth_crowds", "groundtruth_area",
)  # fmt: skip


@dataclass(frozen=True)
class DetectionScore:
    """Accuracy of a detector on a set of images: COCO's numbers, in percent.

    Attributes:
        numbers: ``ap``, the mean over ten thresholds of IoU from 0.5 to 0.95 and over classes, ``ap50``, ``ap75``,
            ``ap_small``, ``ap_medium``, ``ap_large``, and recalls ``ar1``, ``ar10``, ``ar100``; None where there is
            nothing to find. With masks the same of them, ``mask_ap`` and so on.
        per_class: for each class its name, id in the data set, ``ap`` and ``ap50``.
        precision: for each class, precision in percent at recalls of 0, 1, ... 100 %, at an IoU of 0.5, of boxes; empty
            where there is nothing to find.
        thresholds: AP in percent at each of the ten IoU, of boxes.
        images: how many were seen.
    """

    numbers: dict[str, float | None]
    per_class: list[dict[str, Any]]
    precision: dict[str, list[float]]
    thresholds: list[float]
    images: int
    loss: None = field(default=None, repr=False)  # torchvision's detectors have none in evaluation

    @property
    def best(self) -> float:
        """AP: what detectors are judged by. Of boxes, also where there are masks."""
        return self.numbers["ap"] or 0.0

    def metrics(self) -> dict[str, Any]:
        """An epoch's numbers by name."""
        told = [name for name in self.numbers if name.removeprefix("mask_") in ("ap", "ap50", "ap75")]
        return {f"val_{name}": self.numbers[name] for name in told}

    def summary(self) -> dict[str, Any]:
        """All of it by name."""
        return {
            **self.numbers,
            "per_class": self.per_class,
            "precision": self.precision,
            "ap_by_iou": self.thresholds,
        }


class _Metric(MeanAveragePrecision):
    """COCO's evaluation, by faster-coco-eval; pycocotools' numbers to six digits (a test). Lives on the CPU."""

    def __init__(self, *, masks: bool) -> None:
        require_evaluator()
        super().__init__(
            iou_type=("bbox", "segm") if masks else "bbox",
            max_detection_thresholds=[1, 10, 100],  # COCO's own; with others its backends give -1
            class_metrics=True,
            extended_summary=True,
            backend="faster_coco_eval",
            sync_on_compute=False,
        )
        self.warn_on_many_detections = False  # the detector gives at most `detector.detections`; the best 100 count

    def gather(self) -> None:
        """Gives every process what all have seen.

        torchmetrics' own way hangs where one process has seen an image more than another.
        """
        if PartialState().num_processes > 1:
            for name in _STATES:
                setattr(self, name, gather_object(getattr(self, name)))


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[list[Tensor], list[dict[str, Tensor]]]],
    classes: tuple[str, ...],
    category_ids: tuple[int, ...],
    *,
    masks: bool = False,
) -> DetectionScore:
    """Evaluates a detector; over several processes, each gives its share of the images and all get the whole result.

    The model is put into evaluation mode for the time and given back in the mode it came in.

    Raises:
        InputError: faster-coco-eval is not installed.
    """
    metric = _Metric(masks=masks)
    training = model.training
    model.eval()
    for images, targets in batches:
        metric.update([_as_evaluated(found, masks) for found in model(images)], [_truth(t, masks) for t in targets])
    model.train(training)
    metric.gather()
    return _score(metric, classes, category_ids, masks=masks)


def average_precision(
    detections: list[dict[str, Tensor]],
    targets: list[dict[str, Tensor]],
    classes: tuple[str, ...],
    category_ids: tuple[int, ...],
) -> DetectionScore:
    """The score of detections that are there already, boxes alone; both as :func:`evaluate` handles them."""
    metric = _Metric(masks=False)
    metric.update([_as_evaluated(found, False) for found in detections], [_truth(t, False) for t in targets])
    return _score(metric, classes, category_ids, masks=False)


def _as_evaluated(found: dict[str, Tensor], masks: bool) -> dict[str, Tensor]:
    kept = {"boxes": found["boxes"].float(), "labels": found["labels"], "scores": found["scores"].float()}
    return _on_cpu(kept | ({"masks": found["masks"][:, 0] > 0.5} if masks else {}))


def _truth(target: dict[str, Tensor], masks: bool) -> dict[str, Tensor]:
    kept = {name: target[name] for name in ("boxes", "labels", "iscrowd", "area")}
    return _on_cpu(kept | ({"masks": target["masks"].bool()} if masks else {}))


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in tensors.items()}


def _score(
    metric: MeanAveragePrecision, classes: tuple[str, ...], category_ids: tuple[int, ...], *, masks: bool
) -> DetectionScore:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of detections that no image has, which is no news at the start
        found: dict[str, Any] = metric.compute()
    box = "bbox_" if masks else ""
    numbers = {name: _percent(found[box + theirs]) for name, theirs in _NAMES.items()}
    if masks:
        numbers |= {f"mask_{name}": _percent(found["segm_" + theirs]) for name, theirs in _NAMES.items()}
    observed = found["classes"].reshape(-1).tolist()
    # (IoU, recall, class, area, most detections)
    precision = found[box + "precision"][:, :, :, 0, -1]
    per_class, curves = [], {}
    for label, (name, category) in enumerate(zip(classes, category_ids, strict=True), 1):
        table = precision[:, :, observed.index(label)] if label in observed else precision[:, :, :0]
        known = table.numel() > 0 and bool((table > -1).any())
        per_class.append({
            "class": name,
            "category_id": category,
            "ap": 100 * float(table.mean()) if known else None,
            "ap50": 100 * float(table[0].mean()) if known else None,
        })  # fmt: skip
        curves[name] = [100 * p for p in table[0].tolist()] if known else []
    thresholds = [100 * float(at[at > -1].mean()) if bool((at > -1).any()) else 0.0 for at in precision]
    return DetectionScore(numbers, per_class, curves, thresholds, len(metric.groundtruth_labels))


def _percent(value: Tensor) -> float | None:
    return None if value < 0 else 100 * float(value)
