"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 50000 and 10000 colour images of 32x32.

Read from the binary version, records of fixed size; the Python version is a pickle, which is never opened.
"""

from __future__ import annotations

import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from senet.errors import InputError
from senet.train.data.download import download
from senet.train.data.image_set import ImageSet

__all__ = ["CIFAR10", "CIFAR100", "Cifar"]

_PIXELS = 3 * 32 * 32  # red, green, blue; each row by row


@dataclass(frozen=True)
class Cifar:
    """Files of one of the two data sets in its archive.

    Attributes:
        archive: name of the archive.
        md5: its hash.
        folder: the one folder inside.
        train: files of the training split.
        val: files of the test split.
        names: the file with a class name a line.
        classes: how many.
        label_bytes: labels before the pixels of a record; the last is the class.
    """

    archive: str
    md5: str
    folder: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    names: str
    classes: int
    label_bytes: int

    base_url = "https://www.cs.toronto.edu/~kriz/"

    def find_files(self, root: Path) -> Path | None:
        """The archive or the folder of its files, where ``root`` is or holds one of them; else None."""
        for place in (root, root / self.folder, root / self.archive):
            if place.is_file() and place.name == self.archive:
                return place
            if all((place / name).is_file() for name in (*self.train, *self.val, self.names)):
                return place
        return None

    def read_split(self, root: Path | None, split: str) -> ImageSet:
        """One split, from ``root`` or downloaded.

        Returns:
            Images ``(N, 3, 32, 32)``.

        Raises:
            InputError: no way leads to the files, or one of them is damaged.
        """
        place = (self.find_files(root) if root else None) or self._download()
        files = self.train if split == "train" else self.val
        content = _read_files(place, self.folder, (*files, self.names))
        classes = tuple(content[self.names].decode(errors="replace").split())
        if len(classes) != self.classes:
            raise InputError(f"{self.names} in {place} has {len(classes)} class names, not {self.classes}")
        records = np.concatenate([self._records(place, name, content[name]) for name in files])
        labels = torch.from_numpy(records[:, self.label_bytes - 1].astype(np.int64))
        images = torch.from_numpy(records[:, self.label_bytes :].reshape(-1, 3, 32, 32))
        return ImageSet(split, classes, labels, images)

    def _records(self, place: Path, name: str, content: bytes) -> np.ndarray:
        size = self.label_bytes + _PIXELS
        if not content or len(content) % size:
            raise InputError(f"{name} in {place} has {len(content)} bytes, not whole records of {size}; fetch it again")
        records = np.frombuffer(content, np.uint8).reshape(-1, size)
        labels = records[:, self.label_bytes - 1]
        if (labels >= self.classes).any():
            position = int((labels >= self.classes).argmax())
            raise InputError(
                f"{name} in {place}: label of record {position} is {labels[position]}; "
                f"accepted: 0 to {self.classes - 1}"
            )
        return records

    def _download(self) -> Path:
        otherwise = f"or fetch {self.archive} elsewhere and give its folder as data.root"
        return download(self.base_url + self.archive, self.md5, folder="cifar", otherwise=otherwise)


CIFAR10 = Cifar(
    archive="cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    val=("test_batch.bin",),
    names="batches.meta.txt",
    classes=10,
    label_bytes=1,
)

CIFAR100 = Cifar(
    archive="cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    train=("train.bin",),
    val=("test.bin",),
    names="fine_label_names.txt",
    classes=100,
    label_bytes=2,  # coarse, fine
)


def _read_files(place: Path, folder: str, names: tuple[str, ...]) -> dict[str, bytes]:
    """The content of some files, from their folder or straight from the archive, which is never unpacked."""
    content = {}
    try:
        if place.is_dir():
            return {name: (place / name).read_bytes() for name in names}
        with tarfile.open(place, "r:gz") as archive:
            for member in archive:  # in the archive's order: going back would decompress again
                path = Path(member.name)
                file = archive.extractfile(member)
                if file is not None and path.parent.name == folder and path.name in names:
                    content[path.name] = file.read()
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise InputError(f"cannot read {place}: {error}; fetch it again") from error
    if missing := sorted(set(names) - content.keys()):
        raise InputError(f"{place} lacks {', '.join(missing)}; fetch it again")
    return content
