"""Accuracy of a network on a set of images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

__all__ = ["Evaluation", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """Loss and accuracy of a network on a set of images.

    Attributes:
        loss: mean cross-entropy, without label smoothing, in nats.
        top1: percent of images whose most probable class is right.
        top5: percent whose class is among the five most probable; None with five classes or fewer.
        confusion: (classes, classes) counts, rows the true class, columns the predicted one.
    """

    loss: float
    top1: float
    top5: float | None
    confusion: list[list[int]]

    @property
    def images(self) -> int:
        """Number of images seen."""
        return sum(map(sum, self.confusion))

    @property
    def best(self) -> float:
        """Top-1: what networks are judged by."""
        return self.top1

    def metrics(self) -> dict[str, Any]:
        """An epoch's numbers by name."""
        return {"val_loss": self.loss, "val_top1": self.top1, "val_top5": self.top5}

    def summary(self) -> dict[str, Any]:
        """All of it by name."""
        return {"top1": self.top1, "top5": self.top5, "val_loss": self.loss, "confusion": self.confusion}


@torch.inference_mode()
def evaluate(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], num_classes: int, device: torch.device
) -> Evaluation:
    """Evaluates a network; over several processes, each gives its share of the images and all get the whole result.

    The model is put into evaluation mode for the time and given back in the mode it came in.
    """
    loss = MeanMetric(nan_strategy="disable").to(device)
    confusion = MulticlassConfusionMatrix(num_classes).to(device)
    top5 = MulticlassAccuracy(num_classes, top_k=5, average="micro").to(device) if num_classes > 5 else None
    training = model.training
    model.eval()
    for images, labels in batches:
        logits = model(images).float()
        loss.update(F.cross_entropy(logits, labels, reduction="none"))
        confusion.update(logits.argmax(1), labels)
        if top5 is not None:
            top5.update(logits, labels)
    model.train(training)
    counts = confusion.compute()
    return Evaluation(
        loss=float(loss.compute()),
        top1=100 * float(counts.trace()) / max(int(counts.sum()), 1),
        top5=None if top5 is None else 100 * float(top5.compute()),
        confusion=counts.tolist(),
    )
