"""The options of a detector, besides those of its backbone."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from senet.errors import InputError
from senet.models.weights.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from senet.options import checked

__all__ = ["DetectorConfig"]

_ANCHOR = 8.0  # sides of an anchor in strides of its level, at 800 pixels: 32 at stride 4 (arXiv 1612.03144, Sec. 4.1)
_SIDE = 800


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Configuration of a detector, and of the images that are brought to it.

    Args:
        masks: Mask R-CNN (arXiv 1703.06870): a mask for each box, too.
        frozen: stages that do not learn, with their blocks and norms, by the paper's numbers: 0 none, 1 the stem, 2 the
            stem and the first stage of units, as Detectron's FREEZE_AT (in families without a stem, so many levels of
            maps). Only with pretrained weights. None: 2 with them, 0 without.
        norm: of the backbone: ``"frozen"``, fixed statistics and weights, only with pretrained weights; ``"sync"``,
            statistics of the batches of all processes; ``"batch"``, of each process's own. None: frozen with pretrained
            weights, batch without.
        min_size: pixels, the shorter side that images are resized to, in training and evaluation.
        max_size: pixels, the longer side at most; the shorter one is then smaller.
        anchor_scale: side of the anchors in strides of their level. None: 8 at ``min_size=800`` (32 pixels at stride
            4), and as much smaller or larger as the images are.
        fpn_channels: of the pyramid's maps.
        head_channels: of the two hidden layers that classify a region.
        proposals: regions to look at in an image in evaluation, after overlapping ones were dropped; twice as many in
            training.
        regions: of these, how many of an image are learnt from in a step.
        score_threshold: detections less sure than this are dropped.
        nms_threshold: detections of a class that overlap a surer one by more (IoU) are dropped.
        detections: at most so many an image.
        mean: of each channel, for pixel values in 0..1.
        std: of each channel, for pixel values in 0..1.
    """

    masks: bool = False
    frozen: int | None = None
    norm: Literal["frozen", "sync", "batch"] | None = None
    min_size: int = _SIDE
    max_size: int = 1333
    anchor_scale: float | None = None
    fpn_channels: int = 256
    head_channels: int = 1024
    proposals: int = 1000
    regions: int = 512
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections: int = 100
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        """Refuses what no detector could be.

        Raises:
            InputError: names the option, its value and what is accepted.
        """
        checked(type(self), {f.name: getattr(self, f.name) for f in fields(self)}, what="detector")
        for name in ("min_size", "fpn_channels", "head_channels", "proposals", "regions", "detections"):
            if getattr(self, name) < 1:
                raise InputError(f"detector {name} is {getattr(self, name)}; accepted: 1 or more")
        if self.frozen is not None and self.frozen < 0:
            raise InputError(f"detector frozen is {self.frozen}; accepted: 0 or more")
        if self.anchor_scale is not None and not (math.isfinite(self.anchor_scale) and self.anchor_scale > 0):
            raise InputError(f"detector anchor_scale is {self.anchor_scale}; accepted: a number above 0")
        for name in ("score_threshold", "nms_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"detector {name} is {getattr(self, name)}; accepted: from 0 to 1")
        if not all(map(math.isfinite, self.mean)) or not all(math.isfinite(s) and s > 0 for s in self.std):
            raise InputError("detector mean and std are of pixels in 0..1; accepted: finite numbers, std above 0")

    @property
    def anchor_strides(self) -> float:
        """The side of an anchor in strides of its level."""
        return _ANCHOR * self.min_size / _SIDE if self.anchor_scale is None else self.anchor_scale
