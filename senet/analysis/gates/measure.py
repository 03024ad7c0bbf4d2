"""Differences of gates between classes and between the images of one class (paper sec. 7.2, Figures 6 and 7)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from senet.analysis.gates.record import record
from senet.analysis.gates.statistics import DEAD, SATURATED, STILL, GateStatistics, Site
from senet.errors import InputError
from senet.surgery.graph.modules import evaluating

__all__ = ["DEAD", "SATURATED", "STILL", "GateStatistics", "Site", "measure_gates"]


def measure_gates(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], classes: Sequence[str]) -> GateStatistics:
    """Runs the model over the batches and gathers the statistics of its gates.

    The model runs in evaluation mode and without gradients; afterwards every module is in the mode it was in.

    Source: paper sec. 7.2. Differs from the paper: all images given are used, not 50 of each class.

    Args:
        model: any network with squeeze-and-excitation.
        batches: (images, labels), images as the model takes them, on its device; labels (N,) whole numbers.
        classes: the names of the classes.

    Raises:
        InputError: a model without gates, no batch, a label outside the classes, or gates that are not numbers.
    """
    remaining = iter(batches)
    first = next(remaining, None)
    if first is None:
        raise InputError("no batch of images to measure gates on; give at least one")
    recorded = record(model, statistics=True, classes=classes, example=(first[0][:2],))
    with evaluating(model), torch.no_grad(), recorded as recording:
        for images, labels in chain([first], remaining):
            recording.labels = labels
            model(images)
    found = recording.statistics.sites
    if broken := [name for name, site in found.items() if not site.mean.isfinite().all()]:
        raise InputError(f"gates of {', '.join(broken[:3])} are not finite; look for NaN in the weights and the images")
    return recording.statistics
