"""How gates differ between classes and between the images of one class (paper sec. 7.2, Figures 6 and 7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from senet.analysis.record import record
from senet.errors import InputError

__all__ = ["DEAD", "SATURATED", "STILL", "GateStatistics", "Site", "measure_gates"]

# A gate whose standard deviation over all images is below this hardly moves: it is a constant, to 1 part in 100
# of a sigmoid's range, that could be folded into the weights.
STILL = 0.01
# Means over all images beyond which a sigmoid gate shuts its channel off, or lets it pass as if there were no block.
DEAD, SATURATED = 0.05, 0.95


@dataclass(frozen=True)
class Site:
    """The gates of one block over all images: K classes, C channels, float64.

    Variances are those of the images seen (divided by their number, not by one less), so that the law of total
    variance holds exactly: ``total == between + within``. With few images a class, chance alone puts about
    (K - 1) / images of the variance between the classes.
    """

    count: Tensor  # (K,) images of each class
    means: Tensor  # (K, C) mean gate of each class; 0 where there is no image
    moments: Tensor  # (K, C) sum of squared distances from the class's mean

    @property
    def class_means(self) -> Tensor:
        """Mean gate of each class, (K, C), the curves of Figure 6; NaN for a class without images."""
        return torch.where(self.count[:, None] > 0, self.means, torch.nan)

    @property
    def class_stds(self) -> Tensor:
        """Standard deviation over the images of each class, (K, C), the bars of Figure 7; NaN without images."""
        return (self.moments / self.count[:, None]).sqrt()

    @property
    def mean(self) -> Tensor:
        """Mean gate over all images, (C,)."""
        return (self.count[:, None] * self.means).sum(0) / self.count.sum()

    @property
    def between(self) -> Tensor:
        """Variance of the class means, weighted by their images, (C,)."""
        return (self.count[:, None] * (self.means - self.mean) ** 2).sum(0) / self.count.sum()

    @property
    def within(self) -> Tensor:
        """Mean variance inside the classes, weighted by their images, (C,)."""
        return self.moments.sum(0) / self.count.sum()

    @property
    def std(self) -> Tensor:
        """Standard deviation over all images, (C,)."""
        return (self.between + self.within).sqrt()

    @property
    def share_between(self) -> float:
        """Share of the gates' variance, summed over channels, that lies between classes; NaN if no gate moves."""
        return float(self.between.sum() / (self.between.sum() + self.within.sum()))

    @property
    def still(self) -> float:
        """Share of the gates that hardly move: standard deviation over all images below :data:`STILL`."""
        return float((self.std < STILL).double().mean())

    @property
    def dead(self) -> float:
        """Share of the gates whose mean over all images is below :data:`DEAD`."""
        return float((self.mean < DEAD).double().mean())

    @property
    def saturated(self) -> float:
        """Share of the gates whose mean over all images is above :data:`SATURATED`: the block is the identity."""
        return float((self.mean > SATURATED).double().mean())


class GateStatistics:
    """Mean and spread of every gate, by class, gathered batch by batch in memory that does not grow.

    Batches are merged as in Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
    sample variances" (1979), in float64: no cancellation, and any split into batches gives the same result.

    Args:
        classes: the names of the classes; a label is an index into them.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self._sites: dict[str, Site] = {}

    @property
    def sites(self) -> Mapping[str, Site]:
        """Block name -> its statistics, in the order in which the blocks ran."""
        return MappingProxyType(self._sites)

    def update(self, site: str, gates: Tensor, labels: Tensor) -> None:
        """Takes one batch in.

        Args:
            site: name of the block.
            gates: (images, channels).
            labels: (images,), whole numbers from 0 to below the number of classes.

        Raises:
            InputError: as many labels as gates are missing, a label outside the classes, or gates of another width.
        """
        if gates.ndim != 2 or labels.shape != gates.shape[:1]:
            raise InputError(
                f"block {site!r}: gates {tuple(gates.shape)} with labels {tuple(labels.shape)}; accepted: (images, "
                "channels) with (images,), so a block that runs twice for each image cannot be measured"
            )
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            raise InputError(
                f"labels from {int(labels.min())} to {int(labels.max())} for {len(self.classes)} classes; "
                "give every class its name, in the order of the labels"
            )
        batch = _summarise(gates.detach().cpu().double(), labels.cpu().long(), len(self.classes))
        before = self._sites.get(site)
        if before is not None and before.means.shape != batch.means.shape:
            raise InputError(
                f"block {site!r} had {before.means.shape[1]} gates and now has {batch.means.shape[1]}; "
                "give the batches of one network"
            )
        self._sites[site] = batch if before is None else _merge(before, batch)


def _summarise(gates: Tensor, labels: Tensor, classes: int) -> Site:
    zeros = gates.new_zeros(classes, gates.shape[1])
    count = labels.bincount(minlength=classes).double()
    means = zeros.index_add(0, labels, gates) / count.clamp(min=1)[:, None]
    return Site(count, means, zeros.index_add(0, labels, (gates - means[labels]) ** 2))


def _merge(a: Site, b: Site) -> Site:
    count = a.count + b.count
    share = (b.count / count.clamp(min=1))[:, None]
    delta = b.means - a.means
    return Site(count, a.means + delta * share, a.moments + b.moments + delta**2 * a.count[:, None] * share)


def measure_gates(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], classes: Sequence[str]) -> GateStatistics:
    """Runs the model over the batches and gathers the statistics of its gates.

    The model runs in evaluation mode and without gradients; afterwards every module is in the mode it was in.

    Source: paper sec. 7.2. Differs from the paper: all images given are used, not 50 of each class.

    Args:
        model: a network with squeeze-and-excitation blocks.
        batches: (images, labels), images as the model takes them, on its device; labels (N,) whole numbers.
        classes: the names of the classes.

    Raises:
        InputError: a model without blocks, no batch, a label outside the classes, or no gate seen (a compiled
            model calls no hooks).
    """
    statistics = GateStatistics(classes)
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with record(model) as recording, torch.no_grad():
            for images, labels in batches:
                model(images)
                for site, gates in recording.take().items():
                    statistics.update(site, gates, labels)
    finally:
        for module, training in modes.items():
            module.training = training
    if not statistics.sites:
        raise InputError(
            f"no gate of {type(model).__name__} was seen; give at least one batch, and the model itself "
            "rather than a compiled one"
        )
    return statistics
