"""The recipe of a detector: which images with boxes, which network, how they are trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from senet.errors import InputError
from senet.models.detection.config import DetectorConfig
from senet.train.recipe import BaseRecipe

__all__ = ["DetectionData", "DetectionRecipe"]


@dataclass(frozen=True, kw_only=True)
class DetectionData:
    """Images of a detector, their augmentation and batches; the detector itself resizes and normalises them."""

    source: Literal["folder"] = "folder"  # COCO's or VOC's layout, found by what lies in `root`
    root: str | None = None  # where the images lie; `--data`
    # flip: left to right, each second image; flips: top to bottom as well; crop-flip: a random part that keeps boxes
    # (SSD's, arXiv 1512.02325, Sec. 2.2), then flip. Boxes and masks follow.
    augment: Literal["none", "flip", "flips", "crop-flip"] = "flip"
    batch_size: int = 16  # over all processes and accumulation steps together
    lr_batch: int = 16  # `optim.lr` is for a batch of so many; the rate of another batch is in proportion to it
    workers: int = 2  # processes that decode
    val_fraction: float = 0.1  # share of the images held out where nobody says which are
    limit: int | None = None  # train on at most so many images


@dataclass(frozen=True)
class DetectionRecipe(BaseRecipe):
    """The training of a detector; ``model`` is its backbone.

    Attributes:
        detector: how it is built, and how images are brought to it.
        weights: of the backbone to begin with, the path of a file or a tag; None: fresh ones.
    """

    data: DetectionData
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    weights: str | None = None
    task: Literal["detection"] = "detection"

    def __post_init__(self) -> None:
        """Refuses values that no training could have.

        Raises:
            InputError: names the field, its value and what is accepted.
        """
        super().__post_init__()
        if self.data.lr_batch < 1:
            raise InputError(f"data.lr_batch is {self.data.lr_batch}; accepted: 1 or more")
        if self.schedule.name == "plateau":
            raise InputError("schedule.name is 'plateau', but a detector has no validation loss; give another schedule")
        if self.schedule.freeze_norms is not None:
            raise InputError("schedule.freeze_norms is for classifiers; of a detector give detector.norm='frozen'")
        if self.run.compile:
            raise InputError("run.compile is true, but torchvision's detectors do not compile as a whole; leave it out")

    @property
    def lr(self) -> float:
        """The full rate for the batch (the linear rule of arXiv 1706.02677, Sec. 2.1)."""
        return self.optim.lr * self.data.batch_size / self.data.lr_batch
