"""Images that a network classifies correctly: batches are checked, and gone through as often as needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from senet.analysis.pruning.steps import Metric
from senet.errors import InputError, with_article

__all__ = ["batches_of", "device_of", "hits", "judge"]

_TOP = {"top1": 1, "top5": 5}


def device_of(model: nn.Module) -> torch.device:
    """Returns the device of a model: that of its first parameter or buffer, or the CPU if it has neither."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def batches_of(data: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches, on a device; any number of times.

    Raises:
        InputError: the data are no batches, can be gone through only once, hold no image, or a batch is no (images,
            labels).
    """
    given: object = data
    if not isinstance(given, Iterable):
        advice = "give a DataLoader over it" if isinstance(data, Dataset) else "give a list or a DataLoader of batches"
        raise InputError(f"data is {with_article(type(data).__name__)}, which holds no batches; {advice}")
    batches = iter(data)
    if batches is data:
        raise InputError(
            f"data is {with_article(type(data).__name__)}, which is gone after one pass; give a list or a DataLoader"
        )
    empty = True
    for index, batch in enumerate(batches):
        if not (isinstance(batch, tuple | list) and len(batch) == 2 and all(isinstance(t, Tensor) for t in batch)):
            raise InputError(
                f"batch {index} is {with_article(type(batch).__name__)}; accepted: two tensors, images and labels"
            )
        images, labels = batch
        whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
        if labels.shape != images.shape[:1] or not whole:
            raise InputError(
                f"batch {index} has images {tuple(images.shape)} and labels {labels.dtype} {tuple(labels.shape)}; "
                "accepted: (N, ...) and whole numbers (N,)"
            )
        if len(images):
            empty = False
            yield images.to(device), labels.to(device)
    if empty:
        raise InputError("data holds no image; give at least one batch of (images, labels)")


def hits(logits: Tensor, labels: Tensor, metric: Metric) -> Tensor:
    """Marks the correctly classified images: (N, K) and (N,) -> bool (N,), on the CPU.

    Raises:
        InputError: the logits are none or not numbers, labels are of no class, or five guesses cannot be wrong.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"the network gives {given}; accepted: one score a class, (N, classes)")
    classes = logits.shape[1]
    if classes <= _TOP[metric]:
        raise InputError(
            f"metric is {metric!r} for {classes} classes, where it says nothing; give 'top1' or more classes"
        )
    if logits.isnan().any():
        raise InputError("the network's scores are not numbers (NaN); look for the images or weights that are none")
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise InputError(f"labels from {int(labels.min())} to {int(labels.max())} for {classes} classes; count from 0")
    return (logits.topk(_TOP[metric], dim=1).indices == labels[:, None]).any(1).cpu()


def judge(model: nn.Module, data: Iterable[tuple[Tensor, Tensor]], metric: Metric = "top1") -> Tensor:
    """Marks the images that a network classifies correctly, in the order of the data: bool (images,).

    The network runs as it is, in the mode in which it is.

    Raises:
        InputError: as :func:`batches_of` and :func:`hits`.
    """
    with torch.no_grad():
        return torch.cat([hits(model(images), labels, metric) for images, labels in batches_of(data, device_of(model))])
