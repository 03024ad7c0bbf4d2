"""COCO's layout: ``annotations/*.json`` beside folders of images.

Boxes are left, top, width and height, 0-based. Category ids may have gaps; crowds (``iscrowd``) are kept for the
evaluation, which forgives what is found in them; ``area``, of the object, decides what is small.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from senet.errors import InputError
from senet.train.detection.box_set import Annotation, BoxSet, Picture
from senet.train.detection.boxes import MOST_PIXELS, Judge
from senet.train.detection.masks import check_segments
from senet.train.detection.names import check_inside, is_file

__all__ = ["find_files", "read_file"]

_PREFIX = "instances_"
# What the name of a split's file begins with; a later choice counts where there is none of those before it.
_SPLITS: dict[str, list[tuple[str, ...]]] = {"train": [("train",)], "val": [("val", "minival"), ("test",)]}


def find_files(root: Path) -> dict[str, Path]:
    """The files of annotations by split, ``"train"`` and ``"val"``; a single one of neither name as ``"all"``.

    Of files of objects, captions and key points, those of objects count: ``instances_*.json``.

    Raises:
        InputError: none, or more than one that could be a split.
    """
    files = sorted((root / "annotations").glob("*.json"))
    objects = [file for file in files if file.stem.startswith(_PREFIX)]
    files = objects or files
    if not files:
        raise InputError(f"{root / 'annotations'} holds no .json file; give a folder in COCO's or VOC's layout")
    found: dict[str, Path] = {}
    for split, choices in _SPLITS.items():
        for names in choices:
            fitting = [file for file in files if file.stem.removeprefix(_PREFIX).startswith(names)]
            if len(fitting) > 1:
                listed = ", ".join(file.name for file in fitting)
                raise InputError(f"{root / 'annotations'}: {listed} could each be the {split} split; leave one there")
            if fitting and split not in found:
                found[split] = fitting[0]
    if "train" not in found and len(files) == 1:
        return {"all": files[0]}
    if "train" not in found and "val" not in found:
        raise InputError(f"{root / 'annotations'} has no file whose name begins with train or val, but {len(files)}")
    return found


def read_file(path: Path, split: str, *, masks: bool = False) -> BoxSet:
    """The images and boxes of a file of annotations, images in the order of their ids.

    Args:
        path: the file; images lie in the folder of the split's name beside ``annotations`` (``train2017`` for
            ``instances_train2017.json``), in ``images``, in that folder in it, or in the root.
        split: what errors and notes call it.
        masks: whether outlines are kept, too; of COCO they are most of what a file holds.

    Raises:
        InputError: it is not as it should be; names the file and the entry.
    """
    content = _content(path)
    categories = _by_id(content, "categories", path)
    ids = sorted(categories)
    classes = [_text(categories[i], "name", f"{path}: category {i}") for i in ids]
    if not classes or len(set(classes)) < len(classes):
        raise InputError(f"{path}: categories are {classes[:8]}; accepted: at least one, each name once")
    images = _by_id(content, "images", path)
    if not images:
        raise InputError(f"{path} has no images")
    judge = Judge()
    boxes: dict[Any, list[Annotation]] = {i: [] for i in images}
    sizes = {
        i: (_count(image, "height", f"{path}: image {i}"), _count(image, "width", f"{path}: image {i}"))
        for i, image in images.items()
    }
    seen: set[Any] = set()
    for number, entry in enumerate(_list(content, "annotations", path)):
        key, image, category = entry.get("id", f"number {number}"), entry.get("image_id"), entry.get("category_id")
        where = f"{path}: annotation {key}"
        if not all(isinstance(value, (int, str)) for value in (key, image, category)):
            raise InputError(f"{where}: its id, image_id or category_id is no whole number")
        if key in seen:
            raise InputError(f"{where}: its id is there twice; give each annotation its own")
        seen.add(key)
        if image not in images:
            raise InputError(f"{where}: image_id is {image!r}, which is none of the file's images")
        if category not in categories:
            raise InputError(f"{where}: category_id is {category!r}; known: {_some(ids)}")
        annotation = _annotation(entry, ids.index(category) + 1, sizes[image], judge, where, masks=masks)
        if annotation is not None:
            boxes[image].append(annotation)
    folder = _folder(path, next(iter(images.values())))
    pictures = []
    for i in sorted(images, key=lambda i: (str(type(i)), i)):
        name = _file_name(images[i], path)
        file = folder / name
        if not is_file(file):
            raise InputError(f"{path}: image {i}: there is no file {str(file)[:400]}")
        found = tuple(boxes[i])
        judge.empty += all(annotation.crowd for annotation in found)
        relative = file.relative_to(path.parents[1]).as_posix() if file.is_relative_to(path.parents[1]) else name
        pictures.append(Picture(file, relative, i, *sizes[i], annotations=found))
    return BoxSet(split, classes, ids, pictures, judge.notes(split))


def _annotation(
    entry: Mapping[str, Any], label: int, size: tuple[int, int], judge: Judge, where: str, *, masks: bool
) -> Annotation | None:
    given = entry.get("bbox")
    if not isinstance(given, list) or len(given) != 4:
        raise InputError(f"{where}: bbox is {given!r}; accepted: left, top, width, height")
    try:
        left, top, width, height = given
        corners = (left, top, left + width, top + height)
    except TypeError:
        raise InputError(f"{where}: bbox is {given!r}; accepted: four numbers") from None
    box = judge.clip(corners, size, where)
    if box is None:
        return None
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise InputError(f"{where}: iscrowd is {crowd!r}; accepted: 0 or 1")
    if crowd:
        judge.count("crowd", where)
    area = entry.get("area", (box[2] - box[0]) * (box[3] - box[1]))
    if not isinstance(area, (int, float)) or isinstance(area, bool) or not 0 <= area <= MOST_PIXELS**2:
        raise InputError(f"{where}: area is {str(area)[:40]!r}; accepted: pixels, 0 or more")
    segments = (entry.get("segmentation") or None) if masks else None
    if segments is not None:
        check_segments(segments, *size, where=where)
    return Annotation(box, label, bool(crowd), float(area), segments)


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:  # no JSON, no text, or a number of thousands of digits
        raise InputError(f"{path} is not JSON, or is cut off: {error}") from None
    except RecursionError:
        raise InputError(f"{path} is JSON nested too deeply to be annotations") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds {type(content).__name__}; accepted: images, annotations and categories by name")
    return content


def _list(content: Mapping[str, Any], name: str, path: Path) -> Iterator[Mapping[str, Any]]:
    entries = content.get(name)
    if not isinstance(entries, list):
        raise InputError(f"{path} has no list {name!r}; accepted: images, annotations and categories, a list each")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InputError(f"{path}: {name} number {number} is {str(entry)[:40]!r}; accepted: names and values")
        yield entry


def _by_id(content: Mapping[str, Any], name: str, path: Path) -> dict[Any, Mapping[str, Any]]:
    found: dict[Any, Mapping[str, Any]] = {}
    for number, entry in enumerate(_list(content, name, path)):
        key = entry.get("id")
        if not isinstance(key, (int, str)) or isinstance(key, bool) or (name == "categories" and isinstance(key, str)):
            raise InputError(f"{path}: {name} number {number} has the id {key!r}; accepted: a whole number")
        if key in found:
            raise InputError(f"{path}: {name} has the id {key} twice; give each its own")
        found[key] = entry
    return found


def _text(entry: Mapping[str, Any], name: str, where: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}: {name} is {value!r}; accepted: text")
    return value


def _count(entry: Mapping[str, Any], name: str, where: str) -> int:
    value = entry.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_PIXELS:
        raise InputError(f"{where}: {name} is {str(value)[:40]!r}; accepted: 1 to {MOST_PIXELS:,} pixels")
    return value


def _folder(path: Path, image: Mapping[str, Any]) -> Path:
    """Returns the folder of the images, found by the first of them."""
    root, split = path.parents[1], check_inside(path.stem.removeprefix(_PREFIX), f"{path}: its name")
    places = [root / split, root / "images" / split, root / "images", root]
    name = _file_name(image, path)
    for place in places:
        if is_file(place / name):
            return place
    raise InputError(f"{path}: its first image, {name[:400]}, lies in none of {', '.join(map(str, places))}")


def _file_name(image: Mapping[str, Any], path: Path) -> str:
    where = f"{path}: image {image['id']}"
    return check_inside(_text(image, "file_name", where), f"{where}: file_name")


def _some(ids: list[Any]) -> str:
    return ", ".join(map(str, ids[:12])) + (f" and {len(ids) - 12} more" if len(ids) > 12 else "")
