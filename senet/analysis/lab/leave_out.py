"""Accuracy that a network loses when the gates of one block no longer follow the image."""

from __future__ import annotations

import glob
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from senet.analysis.gates.record import record
from senet.analysis.lab.sample import Sample
from senet.errors import InputError

__all__ = ["ALL", "Change", "Effect", "How", "LeaveOneOut", "check_runs", "leave_one_out", "right"]

How = Literal["mean", "one", "shuffled"]
ALL = "all blocks"


@dataclass(frozen=True)
class Change:
    """Change in the number of correctly classified images, compared image by image with the intact gates.

    Attributes:
        images: number of images.
        gained: images that are right only with the gates changed.
        lost: images that are right only with the gates intact.
    """

    images: int
    gained: int
    lost: int

    @property
    def points(self) -> float:
        """The change of the accuracy in percentage points."""
        return 100 * (self.gained - self.lost) / self.images

    @property
    def error(self) -> float:
        """Its standard error in percentage points, Wald's, of paired differences: half of what a bar is drawn to."""
        differing, net = self.gained + self.lost, self.gained - self.lost
        return 100 * math.sqrt((differing - net**2 / self.images) / self.images**2)

    @property
    def shown(self) -> bool:
        """Whether the change is larger than two standard deviations of what chance gives.

        By McNemar's test (1947): were the gates of no use, every image that changed would be as likely gained as lost,
        so that the variance of gained - lost would be gained + lost. That is never less than by :attr:`error`.
        """
        return abs(self.gained - self.lost) > 2 * math.sqrt(self.gained + self.lost)

    @classmethod
    def of(cls, intact: Tensor, changed: Tensor) -> Change:
        """From which images are right: two (n,) tensors of bool."""
        return cls(len(intact), int((changed & ~intact).sum()), int((intact & ~changed).sum()))


@dataclass(frozen=True)
class Effect:
    """Effect on the accuracy of changing the gates of one block, or of all blocks at once.

    Attributes:
        site: the block, or :data:`ALL`.
        how: ``"mean"``: every image gets the mean gates over all images; ``"one"``: the block is as if it were not
            there; ``"shuffled"``: every image gets the gates of another one.
        top1: change of top-1.
        top5: change of top-5; None with five classes or fewer.
    """

    site: str
    how: How
    top1: Change
    top5: Change | None


@dataclass(frozen=True)
class LeaveOneOut:
    """Accuracies in percent with the gates intact, and what changes without them.

    Attributes:
        images: how many images.
        top1: with the gates intact.
        top5: likewise; None with five classes or fewer.
        effects: for every block, and for all at once where there are several, each way of changing them.
    """

    images: int
    top1: float
    top5: float | None
    effects: tuple[Effect, ...]

    @property
    def sites(self) -> tuple[str, ...]:
        """The blocks, in order, without :data:`ALL`."""
        return tuple(dict.fromkeys(effect.site for effect in self.effects if effect.site != ALL))

    def of(self, site: str, how: How) -> Effect:
        """One of the effects."""
        return next(effect for effect in self.effects if (effect.site, effect.how) == (site, how))


def leave_one_out(
    model: nn.Module,
    sample: Sample,
    means: Mapping[str, Tensor],
    *,
    device: torch.device,
    classes: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> tuple[LeaveOneOut, dict[str, Tensor]]:
    """Runs a network on the same images with its gates intact and changed, block by block.

    A gate that differs over positions is changed as a whole: it becomes the same everywhere.

    Args:
        model: in evaluation mode, without gradients.
        sample: the images.
        means: block -> mean gates, (C,); these blocks are changed.
        device: of the model.
        classes: how many.
        seed: of the exchange of gates between images, in which no image keeps its own; one for all blocks.
        progress: is told how many runs over the images of how many are done.

    Returns:
        The accuracies, and block -> gates of the sample with all intact, (images, C).

    Raises:
        InputError: a block that does not run for all images.
    """
    sites = list(means)
    targets = {site: [site] for site in sites} | ({ALL: sites} if len(sites) > 1 else {})
    total = 1 + len(targets) * len(get_args(How))
    ring, order = torch.randperm(len(sample), generator=torch.Generator().manual_seed(seed)), torch.arange(len(sample))
    order[ring] = ring.roll(1)  # each image gets the gates of its neighbour in a ring
    effects: list[Effect] = []
    with record(model, example=(sample.image(0).to(device)[None],)) as recording:
        intact = _judge(sample, device, classes, lambda images, _: model(images))
        gates = {site: values for site, values in recording.take().items() if site in means}
        check_runs({site: len(gates.get(site, ())) for site in means}, len(sample))

        def changed(images: Tensor, start: int) -> Tensor:
            rows = order[start : start + len(images)]
            recording.edit = {_this_call(s): _instead(how, means[s], gates[s][rows]) for s in targets[target]}
            logits = model(images)
            recording.take()  # and forget
            return logits

        for target, how in itertools.product(targets, get_args(How)):
            progress(1 + len(effects), total)
            top1, top5 = _judge(sample, device, classes, changed)
            change5 = None if intact[1] is None or top5 is None else Change.of(intact[1], top5)
            effects.append(Effect(target, how, Change.of(intact[0], top1), change5))
    progress(total, total)
    percent1, percent5 = (None if right is None else 100 * float(right.double().mean()) for right in intact)
    assert percent1 is not None
    return LeaveOneOut(len(sample), percent1, percent5, tuple(effects)), gates


def check_runs(images: Mapping[str, int], of: int) -> None:
    """Raises an error where a block did not run once for every image.

    Raises:
        InputError: it did not.
    """
    for site, count in images.items():
        if count != of:
            raise InputError(
                f"block {site!r} ran for {count} of {of} images; the lab compares images, and looks at blocks that run "
                "for all of them: choose such with blocks"
            )


def _this_call(site: str) -> str:
    """A glob of one call of a block alone; the plain name of its first call would stand for further calls too."""
    return f"{glob.escape(site[:-1])}[{site[-1]}]"


def _instead(how: How, mean: Tensor, others: Tensor) -> Tensor | float:
    values: dict[How, Tensor | float] = {"mean": mean, "one": 1.0, "shuffled": others}
    return values[how]


def right(logits: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor | None]:
    """Marks the correctly classified images, (N,) bool: by top-1, and by top-5 if there are more than five classes.

    An image whose logits are not all finite is wrong.
    """
    best = logits.float().topk(min(5, classes)).indices.cpu() == labels[:, None].cpu()
    best &= logits.isfinite().all(1, keepdim=True).cpu()
    return best[:, 0], best.any(1) if classes > 5 else None


def _judge(
    sample: Sample, device: torch.device, classes: int, run: Callable[[Tensor, int], Tensor]
) -> tuple[Tensor, Tensor | None]:
    """:func:`right` of the whole sample; ``run`` takes images and the place of the first."""
    logits, start = [], 0
    for images in sample.batches(device):
        logits.append(run(images, start))
        start += len(images)
    return right(torch.cat(logits), sample.labels, classes)
