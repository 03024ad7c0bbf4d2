"""Preprocessing of an image to the input that a network was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from senet.errors import InputError
from senet.options import checked

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Preprocessing"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Resize, crop the centre, scale pixels to 0..1, subtract the mean, divide by the standard deviation.

    Goes into files by :func:`senet.options.to_plain` and comes back by :func:`senet.options.build`.

    Args:
        size: pixels, height and width of the centre crop that the network sees.
        resize: pixels, the shorter side before the crop; None: ``size``. timm's ``crop_pct`` is floor(size / crop_pct)
            here.
        squash: resize both sides to ``resize``, whatever the image's proportions.
        interpolation: of the resize, always with antialiasing.
        mean: of each channel, for pixel values in 0..1.
        std: of each channel, for pixel values in 0..1.
        channels: 1 grey, 3 RGB.
    """

    what: ClassVar[str] = "preprocessing"  # as errors call it

    size: int = 224
    resize: int | None = None
    squash: bool = False
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channels: int = 3

    def __post_init__(self) -> None:
        """Refuses what no image could go through.

        Raises:
            InputError: names the field, its value and what is accepted.
        """
        checked(type(self), {f.name: getattr(self, f.name) for f in fields(self)}, what=self.what)
        if self.size < 1:
            raise InputError(f"{self.what}.size is {self.size}; accepted: 1 or more")
        if self.resize is not None and self.resize < self.size:
            raise InputError(f"{self.what}.resize is {self.resize}, smaller than size={self.size}; give at least that")
        if self.channels not in (1, 3):
            raise InputError(f"{self.what}.channels is {self.channels}; accepted: 1 (grey) or 3 (RGB)")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels or not all(map(math.isfinite, values)):
                accepted = f"{self.channels} finite numbers, one a channel"
                raise InputError(f"{self.what}.{name} is {list(values)}; accepted: {accepted}")
        if min(self.std) <= 0:
            raise InputError(f"{self.what}.std is {list(self.std)}; accepted: numbers above 0")
