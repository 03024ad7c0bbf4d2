"""Any folder of images: a folder a class, as torchvision's ``ImageFolder`` has them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import torch

from senet.errors import InputError
from senet.train.data.image_set import ImageSet
from senet.train.data.subset import held_out

__all__ = ["EXTENSIONS", "has_classes", "list_eval", "list_train_val"]

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
_VAL_NAMES = ("val", "valid", "validation", "test")


def list_train_val(root: Path, val_fraction: float) -> tuple[ImageSet, ImageSet]:
    """The files of both splits.

    Either ``root/train/CLASS/...`` with ``root/val`` (or ``valid``, ``validation``, ``test``) beside it, or
    ``root/CLASS/...`` (or ``root/train`` alone), of which a share of each class is held out.

    Raises:
        InputError: not such a folder, or the classes of the splits differ.
    """
    _check_folder(root)
    train_folder = _train_folder(root)
    train = _list_images(train_folder or root, "train", root)
    val_folder = _val_folder(root) if train_folder else None
    if val_folder is not None:
        return train, _list_images(val_folder, "val", root).relabel(train.classes, whose="the train images")
    held = held_out(train.labels, train.classes, val_fraction)
    val = train.take(held.nonzero().flatten())
    return train.take((~held).nonzero().flatten()), dataclasses.replace(val, split="val")


def list_eval(root: Path) -> ImageSet:
    """The files to evaluate on: ``root/val``, ``valid``, ``validation``, ``test``, or ``root`` itself.

    Raises:
        InputError: not such a folder.
    """
    _check_folder(root)
    folder = _val_folder(root)
    if folder is None and _train_folder(root) is not None:
        raise InputError(f"{root} has a train folder, but none of {', '.join(_VAL_NAMES)} to evaluate on")
    return _list_images(folder or root, "val", root)


def has_classes(root: Path) -> bool:
    """Whether there are folders that could be classes or splits."""
    return bool(_subfolders(root))


def _check_folder(root: Path) -> None:
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise InputError(f"data.root {root} {problem}; give a folder with one folder of images a class")


def _train_folder(root: Path) -> Path | None:
    # A class may be called "train", too; then it holds images rather than folders.
    folder = root / "train"
    return folder if folder.is_dir() and _subfolders(folder) else None


def _val_folder(root: Path) -> Path | None:
    folders = [root / name for name in _VAL_NAMES if (root / name).is_dir()]
    if _train_folder(root) is None:  # then a folder so named could be a class
        folders = [folder for folder in folders if _subfolders(folder)]
    return folders[0] if folders else None


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise _unlistable(error) from error


def _list_images(folder: Path, split: str, root: Path) -> ImageSet:
    """All images below the class folders, however deep; classes and files in the order of their names.

    The images are named as they lie below ``root``.
    """
    classes = _subfolders(folder)
    if len(classes) < 2:
        found = f"only one, {classes[0].name!r}" if classes else "none"
        raise InputError(f"{folder} should hold at least two class folders of images, but holds {found}")
    paths: list[Path] = []
    labels: list[int] = []
    for label, class_folder in enumerate(classes):
        files = _images_below(class_folder)
        if not files:
            raise InputError(f"class folder {class_folder} holds no image ({' '.join(sorted(EXTENSIONS))})")
        paths += files
        labels += [label] * len(files)
    names = tuple(path.relative_to(root).as_posix() for path in paths)
    return ImageSet(
        split,
        tuple(path.name for path in classes),
        torch.tensor(labels),
        paths=tuple(paths),
        names=names,
        sizes=tuple(path.stat().st_size for path in paths),
    )


def _images_below(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:  # `os.walk` would leave the folder out
        raise _unlistable(error)

    found = []
    for place, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in EXTENSIONS)


def _unlistable(error: OSError) -> InputError:
    return InputError(f"cannot list folder {error.filename}: {error.strerror}; make it readable")
