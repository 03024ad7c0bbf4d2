"""Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747): 60000 and 10000 grey images of 28x28, ten classes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import FashionMNIST

from senet.errors import InputError
from senet.train.data.download import download
from senet.train.data.image_set import ImageSet

__all__ = ["SYSTEM_DIR", "find_files", "read_split"]

SYSTEM_DIR = Path("/usr/share/datasets/fashion-mnist")  # where Debian's dataset-fashion-mnist puts it
_SUFFIX = "-ubyte"
_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "val": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_UINT8 = 8  # the code of the type in an idx file


def find_files(root: Path) -> dict[str, Path] | None:
    """The four files, by name without ``.gz``, where ``root`` holds them all; else None."""
    found = {}
    for name in (name for names in _FILES.values() for name in names):
        for place in (root / name, root / f"{name}.gz"):
            if place.is_file():
                found[name] = place
    return found if len(found) == 4 else None


def read_split(root: Path | None, split: str) -> ImageSet:
    """One split, from ``root``, from Debian's package, or downloaded.

    Returns:
        Images ``(N, 1, 28, 28)``.

    Raises:
        InputError: no way leads to the files, or one of them is damaged.
    """
    files = find_files(root or SYSTEM_DIR) or _download()
    image_file, label_file = (files[name] for name in _FILES[split])
    images, labels = _read_idx(image_file, dimensions=3), _read_idx(label_file, dimensions=1).long()
    if len(images) != len(labels):
        raise InputError(f"{image_file} holds {len(images)} images, but {label_file} {len(labels)} labels")
    classes = tuple(FashionMNIST.classes)
    if (labels >= len(classes)).any():
        position = int((labels >= len(classes)).nonzero()[0])
        raise InputError(f"{label_file}: label {position} is {int(labels[position])}; accepted: 0 to 9")
    return ImageSet(split, classes, labels, images.unsqueeze(1))


def _download() -> dict[str, Path]:
    """The four files in the cache."""
    otherwise = "or install the Debian package dataset-fashion-mnist, or give the files' folder as data.root"
    files = {}
    for name, md5 in FashionMNIST.resources:
        url = FashionMNIST.mirrors[0] + name
        files[name.removesuffix(".gz")] = download(url, md5, folder="fashion-mnist", otherwise=otherwise)
    return files


def _read_idx(path: Path, *, dimensions: int) -> Tensor:
    """A uint8 array in the idx format: two zero bytes, type, number of dimensions, sizes (big-endian), data."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}; fetch it again") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, _UINT8, dimensions]):
        raise InputError(f"{path} is not an idx file of bytes in {dimensions} dimensions; fetch it again")
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) != header + math.prod(shape):
        given = len(content) - header
        raise InputError(f"{path} has {given} bytes of data, its header says {math.prod(shape)}; fetch it again")
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy())
