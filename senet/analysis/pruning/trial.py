"""Gates that a network can do without: each tried as a constant, by the images that are then classified correctly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from senet.analysis.gates.edits import first_call
from senet.analysis.gates.record import record
from senet.analysis.pruning.judge import batches_of, device_of, hits, judge
from senet.analysis.pruning.steps import Metric
from senet.errors import InputError
from senet.surgery.graph.verify import relative_difference

__all__ = ["Attempt", "Trial", "percent"]


@dataclass(frozen=True)
class Attempt:
    """A gate tried as a constant: accuracy before, accuracy with it, and whether it stays one."""

    site: str
    before: float
    after: float
    kept: bool


@dataclass(frozen=True)
class Trial:
    """A network that is judged by the same images again and again, with other gates held each time.

    Attributes:
        model: in evaluation mode.
        data: batches of images and labels.
        metric: what accuracy is.
        example: what the model's forward takes.
    """

    model: nn.Module
    data: Iterable[tuple[Tensor, Tensor]]
    metric: Metric
    example: Sequence[Any]

    def start(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Judges the network as it is: its correctly classified images, and the mean of each gate, (C,) in float64."""
        with record(self.model, statistics=True, example=self.example) as recording:
            right = judge(self.model, self.data, self.metric)
            means = {name: site.mean for name, site in recording.statistics.sites.items() if name == first_call(name)}
        if broken := [name for name, mean in means.items() if not mean.isfinite().all()]:
            raise InputError(f"the gates of {broken[0]!r} are not numbers for some image; look at its weights")
        return right, means

    def greedy(
        self, means: Mapping[str, Tensor], start: Tensor, max_drop: float, progress: Callable[[str, int, int], None]
    ) -> list[Attempt]:
        """Tries gate after gate; each that costs too much is given back before the next."""
        tried: list[Attempt] = []
        kept: dict[str, Tensor] = {}
        now = start
        with record(self.model, statistics=True, example=self.example) as recording:  # of which nothing is read
            for done, (site, mean) in enumerate(means.items()):
                progress(f"trying {site}", done, len(means))
                recording.edit = {**kept, site: mean}
                then = judge(self.model, self.data, self.metric)
                _check_count(then, start)
                lost = percent(start) - percent(then)
                good = lost <= max_drop + 1e-9  # which rounding alone may exceed
                tried.append(Attempt(site, percent(now), percent(then), good))
                if good:
                    now, kept = then, {**kept, site: mean}
        return tried

    def agreeing(self, pruned: nn.Module, kept: Mapping[str, Tensor]) -> Tensor:
        """Marks the images that the pruned network gets right; its scores must be those with the gates held."""
        right = []
        with record(self.model, edit=kept, statistics=True, example=self.example):
            for images, labels in batches_of(self.data, device_of(self.model)):
                wanted, got = self.model(images), pruned(images)
                error = relative_difference(got, wanted)
                if not error <= math.sqrt(torch.finfo(wanted.dtype).eps):
                    raise RuntimeError(f"folded, the network differs by {error:.1e} from the one that was judged")
                right.append(hits(got, labels, self.metric))
        return torch.cat(right)


def _check_count(then: Tensor, start: Tensor) -> None:
    if len(then) != len(start):
        raise InputError(f"data held {len(start)} images at first and then {len(then)}; give the same in every pass")


def percent(right: Tensor) -> float:
    """The share of images that were got right."""
    return 100 * int(right.sum()) / len(right)
