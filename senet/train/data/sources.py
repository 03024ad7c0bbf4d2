"""From the description of the data to its two splits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import torch
from torchvision.transforms.v2 import functional as transforms

from senet.errors import InputError
from senet.train.data import fashion_mnist, folder, synthetic
from senet.train.data.cifar import CIFAR10, CIFAR100
from senet.train.data.image_set import ImageSet
from senet.train.data.images import Progress, read_images
from senet.train.data.preprocess import fit
from senet.train.data.subset import balanced
from senet.train.recipe import Data

__all__ = ["fingerprint_of", "load_data", "load_eval", "load_split"]

Split = Literal["train", "val"]

_MEMORY = 2 * 2**30  # bytes of decoded images that `cache="auto"` keeps

# The sources that are a few files of raw pixels: what finds the files, and what reads one split.
_ARRAYS: dict[str, tuple[Callable[[Path], object], Callable[[Path | None, str], ImageSet]]] = {
    "fashion-mnist": (fashion_mnist.find_files, fashion_mnist.read_split),
    "cifar10": (CIFAR10.find_files, CIFAR10.read_split),
    "cifar100": (CIFAR100.find_files, CIFAR100.read_split),
}


def load_data(spec: Data, *, progress: Progress | None = None) -> tuple[ImageSet, ImageSet]:
    """The images to train on and to validate with.

    Every source but ``"synthetic"`` also takes a ``root`` that is a folder of images, a folder a class. Its
    images are decoded once, to ``spec.size``, where ``spec.cache`` says so; the other sources always lie in
    memory, as their few files are read whole.

    Args:
        spec: the data.
        progress: called after each image decoded into memory.

    Raises:
        InputError: the data is not there, or not as it should be; one line with what to do.
    """
    train, val = _decoded(spec, *_splits(spec, "train", "val"), progress=progress)
    return train, val


def load_split(spec: Data, split: Split, *, progress: Progress | None = None) -> ImageSet:
    """One of the two splits that :func:`load_data` gives, without reading the images of the other.

    ``spec.cache="auto"`` looks at the images of this split alone.

    Args:
        spec: the data.
        split: which.
        progress: called after each image decoded into memory.

    Raises:
        InputError: as :func:`load_data`; or there is no such split.
    """
    if split not in get_args(Split):
        raise InputError(f"the split is {split!r}; accepted: 'train', 'val'")
    (image_set,) = _decoded(spec, *_splits(spec, split), progress=progress)
    return image_set


def fingerprint_of(spec: Data, split: Split) -> str:
    """The fingerprint of what :func:`load_split` gives, with no file of an image opened.

    Raises:
        InputError: the data is not there, or not as it should be.
    """
    return _splits(spec, split)[0].fingerprint


def load_eval(spec: Data, *, classes: tuple[str, ...] | None, progress: Progress | None = None) -> ImageSet:
    """The images to evaluate a trained model on: the validation split, or all of a folder without splits.

    Args:
        spec: the data; ``root`` may be any folder with ``val``, ``test`` or the class folders themselves.
        classes: the model's class names, by whose order labels are counted; None takes the data's own.
        progress: called after each image decoded into memory.

    Raises:
        InputError: as :func:`load_data`; or the data has other classes than the model: names the missing and
            the extra ones.
    """
    root = _root(spec)
    if _is_folder(spec, root):
        assert root is not None
        val = folder.list_eval(root)
    else:
        val = _read_arrays(spec, root, "val")
    if classes is not None:
        val = val.relabel(classes)
    (val,) = _decoded(spec, val, progress=progress)
    return val


def _splits(spec: Data, *wanted: Split) -> list[ImageSet]:
    """Some of the two splits, images in files not decoded; the one to train on cut to ``spec.limit``."""
    root = _root(spec)
    if _is_folder(spec, root):
        assert root is not None
        listed = folder.list_train_val(root, spec.val_fraction)
        sets = [image_set for image_set in listed if image_set.split in wanted]
    else:
        sets = [_read_arrays(spec, root, split) for split in wanted]
    for position, image_set in enumerate(sets):
        if image_set.split == "train" and spec.limit is not None:
            sets[position] = image_set.take(balanced(image_set.labels, image_set.classes, spec.limit))
    return sets


def _root(spec: Data) -> Path | None:
    return None if spec.root is None else Path(spec.root).expanduser()


def _is_folder(spec: Data, root: Path | None) -> bool:
    """Whether the data is a folder of class folders; refuses a root that the source cannot use."""
    if spec.source == "folder":
        if root is None:
            raise InputError("data.source 'folder' needs data.root (--data DIR), a folder with one folder a class")
        return True
    if root is None:
        return False
    if spec.source == "synthetic":
        raise InputError(f"data.source 'synthetic' makes its images up; remove data.root ({root})")
    find_files, _ = _ARRAYS[spec.source]
    if not root.exists():
        raise InputError(f"data.root {root} does not exist; give the folder of {spec.source}, or of class folders")
    if find_files(root):
        return False
    if root.is_dir() and folder.has_classes(root):
        return True
    raise InputError(f"data.root {root} holds neither the files of {spec.source} nor class folders; give one of them")


def _read_arrays(spec: Data, root: Path | None, split: str) -> ImageSet:
    """One split of a source that is read whole, with the number of channels asked for."""
    if spec.cache == "disk":
        raise InputError(f"data.cache is 'disk', but {spec.source} is read whole; accepted: 'auto', 'memory'")
    if spec.source == "synthetic":
        return synthetic.make_split(spec, split)
    _, read_split = _ARRAYS[spec.source]
    image_set = read_split(root, split)
    images = image_set.images
    assert images is not None
    if images.shape[1] != spec.channels:
        convert = transforms.grayscale_to_rgb if spec.channels == 3 else transforms.rgb_to_grayscale
        image_set = dataclasses.replace(image_set, images=convert(images).contiguous())
    return image_set


def _decoded(spec: Data, *sets: ImageSet, progress: Progress | None) -> list[ImageSet]:
    """Sets of files, with the images decoded into memory where that is wanted; others as they are."""
    paths = [path for image_set in sets for path in image_set.paths or ()]
    needed = len(paths) * spec.channels * spec.size**2
    keep = spec.cache == "memory" or (spec.cache == "auto" and spec.augment != "resized-crop" and needed <= _MEMORY)
    if not paths or not keep:
        return list(sets)
    images = read_images(paths, spec.channels, spec.size, lambda image: fit(image, spec), progress=progress)
    parts = torch.split(images, [len(image_set) for image_set in sets])
    return [
        dataclasses.replace(image_set, images=part, paths=None, fitted=True)
        for image_set, part in zip(sets, parts, strict=True)
    ]
