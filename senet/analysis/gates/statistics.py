"""Mean and spread of gates by class, gathered batch by batch in memory that does not grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from senet.errors import InputError

__all__ = ["DEAD", "SATURATED", "STILL", "GateStatistics", "Site"]

# A gate whose standard deviation over all images is below this hardly moves: it is a constant, to 1 part in 100
# of a sigmoid's range, that could be folded into the weights.
STILL = 0.01
# Means over all images beyond which a sigmoid gate shuts its channel off, or lets it pass as if there were no block.
DEAD, SATURATED = 0.05, 0.95
TOGETHER = 256  # images that small batches are merged by: one merge takes about as long for 256 as for 1


@dataclass(frozen=True)
class Site:
    """The gates of one block over all images: K classes, C channels, float64, on the CPU.

    Variances are those of the images seen (divided by their number, not by one less), so that the law of total
    variance holds exactly: ``total == between + within``. With few images a class, chance alone puts about
    (K - 1) / images of the variance between the classes. A gate that was not a number for one image has a mean and a
    spread that are none.
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
    def within_one(self) -> bool:
        """Whether all means lie from 0 to 1, as a sigmoid's; else :attr:`dead` and :attr:`saturated` say nothing."""
        return bool(self.mean.min() >= 0) and bool(self.mean.max() <= 1)

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
    sample variances" (1979), in float64: no cancellation, and any split into batches gives the same result. What is
    gathered stays on the gates' own device, which is waited for only where :attr:`sites` is read; Apple's, which
    knows no float64, hands its gates to the CPU.

    Args:
        classes: the names of the classes; a label is an index into them. One name: no labels are needed.

    Raises:
        InputError: no names.
    """

    def __init__(self, classes: Sequence[str] = ("all",)) -> None:
        if isinstance(classes, str) or not len(classes):
            raise InputError(f"classes is {classes!r}; accepted: a list of names, in the order of the labels")
        self.classes = tuple(classes)
        self._gathered: dict[str, _Gathered] = {}

    @property
    def sites(self) -> Mapping[str, Site]:
        """Block name -> its statistics so far, in the order in which the blocks ran."""
        return MappingProxyType({name: gathered.site() for name, gathered in self._gathered.items()})

    def checked(self, labels: Tensor) -> Tensor:
        """The labels of a batch as :meth:`add` takes them.

        Args:
            labels: (images,), whole numbers from 0 to below the number of classes.

        Raises:
            InputError: they are something else.
        """
        if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
            given = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
            raise InputError(f"labels are {given}; accepted: a tensor (images,) of whole numbers, one for each image")
        labels = labels.detach().cpu().long()
        low, high = (int(end) for end in labels.aminmax()) if labels.numel() else (0, 0)
        if low < 0 or high >= len(self.classes):
            raise InputError(
                f"labels from {low} to {high} for {len(self.classes)} classes; "
                "give every class its name, in the order of the labels"
            )
        return labels

    def update(self, site: str, gates: Tensor, labels: Tensor) -> None:
        """Takes one batch in: :meth:`add` with labels that are yet to be checked.

        Raises:
            InputError: as :meth:`checked` and :meth:`add`.
        """
        self.add(site, gates, self.checked(labels))

    def check(self, site: str, gates: Tensor, labels: Tensor | None = None) -> None:
        """Looks at a batch as :meth:`add` does, and takes nothing in.

        Raises:
            InputError: as :meth:`add`.
        """
        if labels is None and len(self.classes) > 1:
            raise InputError(f"block {site!r}: no labels for {len(self.classes)} classes; give them before each batch")
        if gates.ndim != 2:
            raise InputError(f"block {site!r}: gates {tuple(gates.shape)}; accepted: (images, channels)")
        if labels is not None and labels.shape != gates.shape[:1]:
            raise InputError(
                f"block {site!r}: {len(labels)} labels for the gates of {len(gates)} images; give one for each image"
            )
        gathered = self._gathered.get(site)
        if gathered is not None and gathered.means.shape[1] != gates.shape[1]:
            raise InputError(
                f"block {site!r} had {gathered.means.shape[1]} gates and now has {gates.shape[1]}; "
                "give the batches of one network"
            )

    def add(self, site: str, gates: Tensor, labels: Tensor | None = None) -> None:
        """Takes one batch in.

        Args:
            site: name of the block.
            gates: (images, channels), on any device.
            labels: from :meth:`checked`; None where there is one class.

        Raises:
            InputError: labels are missing, there are more or fewer of them than images, or gates of another width.
        """
        self.check(site, gates, labels)
        gathered = self._gathered.get(site)
        if gathered is None:
            with torch.inference_mode(False):  # what is gathered in it can then be added to outside
                gathered = self._gathered[site] = _Gathered(gates, len(self.classes))
        gathered.add(gates.detach(), labels)


class _Gathered:
    """The statistics of one site, and the last few images, which small batches are merged by."""

    def __init__(self, gates: Tensor, classes: int) -> None:
        device, channels = torch.device("cpu") if gates.device.type == "mps" else gates.device, gates.shape[1]
        self.count = torch.zeros(classes, dtype=torch.float64, device=device)
        self.means = torch.zeros(classes, channels, dtype=torch.float64, device=device)
        self.moments = torch.zeros_like(self.means)
        self.rows = torch.zeros(TOGETHER, channels, dtype=torch.float64, device=device)
        self.labels = torch.zeros(TOGETHER, dtype=torch.long)
        self.filled = 0

    def add(self, gates: Tensor, labels: Tensor | None) -> None:
        end = self.filled + len(gates)
        if end > TOGETHER:
            self.merge(self.rows[: self.filled], self.labels[: self.filled])
            self.filled, end = 0, len(gates)
        if end > TOGETHER:
            labels = torch.zeros(end, dtype=torch.long) if labels is None else labels
            self.merge(gates.to(self.means), labels)
            return
        self.rows[self.filled : end] = gates
        if labels is not None:
            self.labels[self.filled : end] = labels
        self.filled = end

    def merge(self, gates: Tensor, labels: Tensor) -> None:
        """Merges images into the statistics, in place: only the rows of their classes are touched."""
        classes, row = labels.unique(return_inverse=True)
        images = torch.bincount(row, minlength=len(classes)).double()
        classes, row, images = (t.to(gates.device, non_blocking=True) for t in (classes, row, images))
        zeros = gates.new_zeros(len(classes), gates.shape[1])
        means = zeros.index_add(0, row, gates) / images[:, None]
        moments = zeros.index_add_(0, row, (gates - means[row]).square_())
        before = self.count[classes]
        share = (images / (before + images))[:, None]
        delta = means - self.means[classes]
        self.moments.index_add_(0, classes, moments + delta.square() * share * before[:, None])
        self.means.index_add_(0, classes, delta * share)
        self.count.index_add_(0, classes, images)

    @torch.inference_mode(False)
    def site(self) -> Site:
        """All images so far."""
        self.merge(self.rows[: self.filled], self.labels[: self.filled])
        self.filled = 0
        return Site(*(t.to("cpu", copy=True) for t in (self.count, self.means, self.moments)))
