"""Results of the excitation lab: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from senet.analysis.gates.statistics import Site
from senet.analysis.lab.images import Portrait
from senet.analysis.lab.leave_out import ALL, Change, LeaveOneOut
from senet.analysis.lab.statistics import Spectrum

__all__ = ["Excitation"]


@dataclass(frozen=True)
class Excitation:
    """Behaviour of the gates of a network on a set of images.

    Attributes:
        name: of the network.
        classes: the names of all classes.
        chosen: which of them the figures show.
        images: how many images the statistics are of.
        top1: percent of these that are right.
        sites: block -> statistics of its gates over all images, blocks in the order in which they ran.
        spectra: block -> in how many directions its gates move, over the sample of ``leave_out``.
        compared: the classes of the matrices of ``similarity``: all of them, or the chosen ones of many.
        similarity: block -> correlation of the mean gates of every two of these classes.
        leave_out: what the network loses without the gates of a block, on a random sample of the images.
        portraits: single images.
        blocks: how many blocks the network has, looked at or not.
        planes: the blocks whose gates differ over positions; their statistics are of the mean over positions.
    """

    name: str
    classes: tuple[str, ...]
    chosen: tuple[int, ...]
    images: int
    top1: float
    sites: Mapping[str, Site]
    spectra: Mapping[str, Spectrum]
    compared: tuple[int, ...]
    similarity: Mapping[str, Tensor]
    leave_out: LeaveOneOut
    portraits: tuple[Portrait, ...]
    blocks: int
    planes: tuple[str, ...]

    @property
    def looked_at(self) -> str:
        """Phrase for the blocks of the results, after "the": ``"blocks"``, or ``"blocks looked at (2 of 3)"``."""
        return "blocks" if len(self.sites) == self.blocks else f"blocks looked at ({len(self.sites)} of {self.blocks})"

    def called(self, target: str) -> str:
        """Returns the name of a row of ``leave_out``: a block's, "all blocks", or :attr:`looked_at` after "the"."""
        return f"the {self.looked_at}" if target == ALL and self.looked_at != "blocks" else target

    def to_dict(self) -> dict[str, Any]:
        """As what JSON can write: of the classes the chosen ones alone, null for what is not defined."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "chosen": [self.classes[k] for k in self.chosen],
            "images": self.images,
            "top1": self.top1,
            "blocks": {name: self._block(name) for name in self.sites},
            "compared": [self.classes[k] for k in self.compared],
            "similarity": {name: _numbers(matrix) for name, matrix in self.similarity.items()},
            "leave_one_out": {
                "images": self.leave_out.images,
                "top1": self.leave_out.top1,
                "top5": self.leave_out.top5,
                "effects": [
                    {"block": e.site, "gates": e.how, "top1": _paired(e.top1), "top5": e.top5 and _paired(e.top5)}
                    for e in self.leave_out.effects
                ],
            },
            "portraits": [
                {
                    "truth": portrait.truth,
                    "guess": portrait.guess,
                    "deviations": {name: _numbers(values) for name, values in portrait.deviations.items()},
                }
                for portrait in self.portraits
            ],
        }

    def _block(self, name: str) -> dict[str, Any]:
        site, spectrum = self.sites[name], self.spectra[name]
        return {
            "gates": len(site.mean),
            "mean": _numbers(site.mean),
            "std": _numbers(site.std),
            "share_between": _numbers(torch.tensor(site.share_between)),
            "still": site.still,
            "dead": site.dead if site.within_one else None,
            "saturated": site.saturated if site.within_one else None,
            "effective_rank": spectrum.effective_rank,
            "participation_ratio": spectrum.participation_ratio,
            "class_means": {self.classes[k]: _numbers(site.class_means[k]) for k in self.chosen},
            "class_stds": {self.classes[k]: _numbers(site.class_stds[k]) for k in self.chosen},
        }


def _paired(change: Change) -> dict[str, float]:
    return {
        "change": change.points,
        "standard_error": change.error,
        "gained": change.gained,
        "lost": change.lost,
    }


def _numbers(values: Tensor) -> Any:
    """Nested lists of numbers; None for NaN, which JSON does not know."""
    if values.ndim:
        return [_numbers(row) for row in values]
    return float(values) if values.isfinite() else None
