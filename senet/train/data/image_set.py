"""One split of a data set: its classes, its labels, and its images in memory or on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from senet.errors import InputError

__all__ = ["ImageSet"]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split, with its images either decoded in memory or as files to decode when asked for.

    Attributes:
        split: ``"train"`` or ``"val"``.
        classes: class names; a label is an index into them.
        labels: ``(N,)`` int64.
        images: ``(N, channels, height, width)`` uint8, or None.
        paths: N image files, or None. Exactly one of ``images`` and ``paths`` is given.
        fitted: ``images`` are already resized and cropped to what the network sees.
        names: N names such as ``"val/cat/0001.jpg"``, relative to the root of the data, where the images come from
            files, be they decoded by now or not.
        sizes: N sizes of these files in bytes.
    """

    split: str
    classes: tuple[str, ...]
    labels: Tensor
    images: Tensor | None = None
    paths: tuple[Path, ...] | None = None
    fitted: bool = False
    names: tuple[str, ...] | None = None
    sizes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        held = [len(part) for part in (self.images, self.paths) if part is not None]
        assert held == [len(self.labels)], "an ImageSet holds images or paths, one a label"
        assert self.names is None or len(self.names) == len(self.labels)
        assert (self.names is None) == (self.sizes is None), "files have names and sizes"
        assert self.paths is None or self.names is not None, "files have names and sizes"

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing: images are taken as they are."""
        return ()

    def described(self) -> dict[str, Any]:
        """The classes."""
        return {"classes": list(self.classes)}

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that tell this split from others: one with other images or labels has other ones.

        The start of the SHA-256 of the class names, the labels, and what the images are. For images that come from
        files these are their names and sizes and not their pixels, so that it neither depends on where the folder lies
        and how it is spelt, nor on whether the images are decoded, and to which shape; a file that was changed but
        kept name and size goes unnoticed. For others they are shape and pixels.
        """
        images = None if self.names is not None else self.images
        shape = None if images is None else list(images.shape)
        told = [self.classes, self.labels.tolist(), self.names, self.sizes, shape]
        digest = hashlib.sha256(json.dumps(told).encode())
        if images is not None:
            digest.update(images.reshape(-1).numpy().data)
        return digest.hexdigest()[:16]

    def take(self, indices: Tensor) -> ImageSet:
        """The same split with only some of its images, in the order given (int64)."""
        chosen = indices.tolist()
        return dataclasses.replace(
            self,
            labels=self.labels[indices],
            images=None if self.images is None else self.images[indices],
            paths=None if self.paths is None else tuple(self.paths[i] for i in chosen),
            names=None if self.names is None else tuple(self.names[i] for i in chosen),
            sizes=None if self.sizes is None else tuple(self.sizes[i] for i in chosen),
        )

    def relabel(self, classes: tuple[str, ...], *, whose: str = "the model") -> ImageSet:
        """The same split with its labels counted along ``classes``, which name the same classes in any order.

        Args:
            classes: the class names that labels shall count along.
            whose: how an error calls what has them, for example ``"the model"``.

        Raises:
            InputError: the names differ; lists what is missing and what is extra.
        """
        missing, extra = sorted(set(classes) - set(self.classes)), sorted(set(self.classes) - set(classes))
        if missing or extra:
            raise InputError(
                f"the {self.split} images should have the {len(classes)} classes of {whose}; "
                f"missing: {_listed(missing)}; extra: {_listed(extra)}; give a folder for each class and no other"
            )
        table = torch.tensor([classes.index(name) for name in self.classes])
        return dataclasses.replace(self, classes=classes, labels=table[self.labels])


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + more) if names else "none"
