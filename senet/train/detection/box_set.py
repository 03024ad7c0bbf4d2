"""One split of a data set with boxes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Annotation", "BoxSet", "Picture"]


@dataclass(frozen=True, slots=True)
class Annotation:
    """A box and what it is around.

    Attributes:
        box: left, top, right, bottom in pixels, 0-based: the first pixel is from 0 to 1.
        label: 1 for the first class.
        crowd: not to be learnt from, and no detection that lies in it is wrong.
        area: in pixels, of the object where known, or else of the box.
        segments: polygons or run lengths as COCO has them, or None.
    """

    box: tuple[float, float, float, float]
    label: int
    crowd: bool
    area: float
    segments: Any = None


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file and its boxes.

    Attributes:
        path: the file.
        name: relative to the root of the data.
        id: as the data set calls it.
        height: in pixels.
        width: in pixels.
        annotations: none, or some.
    """

    path: Path
    name: str
    id: int | str
    height: int
    width: int
    annotations: tuple[Annotation, ...]


class BoxSet:
    """One split: image files, and all their boxes in a few arrays, which other processes are given at little cost.

    Args:
        split: ``"train"`` or ``"val"``.
        classes: names; label 1 is the first of them, 0 the background.
        category_ids: of the classes, as the data set has them; gaps are allowed.
        pictures: the images.
        notes: what of the data was changed or left out, a sentence each.

    Attributes:
        paths, names, ids: of the N images.
        sizes: (N,) int64, bytes of the files.
        shapes: (N, 2) int64, height and width in pixels.
        first: (N + 1,) int64: the boxes of image i are those from ``first[i]`` to below ``first[i + 1]``.
        boxes: (M, 4) float32: left, top, right, bottom in pixels.
        labels: (M,) int64.
        crowd: (M,) bool.
        areas: (M,) float64.
        segments: M entries as COCO has them; None where no box has any.
    """

    def __init__(
        self,
        split: str,
        classes: Sequence[str],
        category_ids: Sequence[int],
        pictures: Sequence[Picture],
        notes: Sequence[str] = (),
    ) -> None:
        self.split, self.classes, self.category_ids = split, tuple(classes), tuple(category_ids)
        self.notes = tuple(notes)
        self.pictures = tuple(pictures)
        self.paths = tuple(picture.path for picture in pictures)
        self.names = tuple(picture.name for picture in pictures)
        self.ids = tuple(picture.id for picture in pictures)
        self.sizes = np.array([path.stat().st_size for path in self.paths], np.int64)
        self.shapes = np.array([(p.height, p.width) for p in pictures], np.int64).reshape(-1, 2)
        self.first = np.cumsum([0, *(len(picture.annotations) for picture in pictures)]).astype(np.int64)
        every = [annotation for picture in pictures for annotation in picture.annotations]
        self.boxes = np.array([a.box for a in every], np.float32).reshape(-1, 4)
        self.labels = np.array([a.label for a in every], np.int64)
        self.crowd = np.array([a.crowd for a in every], bool)
        self.areas = np.array([a.area for a in every], np.float64)
        has_segments = any(a.segments is not None for a in every)
        self.segments = tuple(a.segments for a in every) if has_segments else None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)

    def of(self, index: int) -> slice:
        """The boxes of an image, as a slice of all."""
        return slice(int(self.first[index]), int(self.first[index + 1]))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that tell this split from others, wherever it lies: names and sizes of files, boxes."""
        told = [self.classes, self.category_ids, self.names, self.sizes.tolist(), self.first.tolist()]
        digest = hashlib.sha256(json.dumps(told).encode())
        for array in (self.boxes, self.labels, self.crowd):
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]

    def described(self) -> dict[str, Any]:
        """The classes, and their ids in the data set."""
        return {"classes": list(self.classes), "category_ids": list(self.category_ids)}

    def take(self, indices: Sequence[int], *, split: str | None = None) -> BoxSet:
        """Some of the images, in the order given."""
        pictures = [self.pictures[index] for index in indices]
        return BoxSet(split or self.split, self.classes, self.category_ids, pictures, self.notes)
