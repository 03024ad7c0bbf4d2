"""From a folder with boxes to its two splits."""

from __future__ import annotations

from pathlib import Path

from senet.analysis.wording import plural
from senet.errors import InputError
from senet.train.data.randomness import stream
from senet.train.detection import coco, voc
from senet.train.detection.box_set import BoxSet
from senet.train.detection.recipe import DetectionData

__all__ = ["load_boxes", "load_boxes_eval"]


def load_boxes(spec: DetectionData, *, masks: bool = False) -> tuple[BoxSet, BoxSet]:
    """The images to train on, at most ``spec.limit``, and to validate with.

    A folder with ``annotations`` is in COCO's layout, one with ``Annotations`` in VOC's. Where it does not say which
    images are for validation, a share ``spec.val_fraction`` is held out, the same for every seed. With ``masks``,
    outlines are kept where there are any.

    Raises:
        InputError: the data is not there, or not as it should be; one line that names the file and the entry.
    """
    root = _root(spec)
    if (root / "annotations").is_dir():
        files = coco.find_files(root)
        if "val" in files and "train" not in files:
            raise InputError(f"{root / 'annotations'} has {files['val'].name}, but no file to train on")
        sets = {split: coco.read_file(path, split, masks=masks) for split, path in files.items()}
    else:
        lists = voc.find_lists(root)
        classes = voc.names_in(root, lists.get("train", lists.get("all", [])))
        sets = {split: voc.read_list(root, names, classes, split) for split, names in lists.items()}
    if "val" in sets:
        train, val = sets["train"], sets["val"]
        _check_same(train, val)
    else:
        train, val = _held_out(sets.get("all") or sets["train"], spec.val_fraction)
    if spec.limit is not None and spec.limit < len(train):
        chosen = stream("subset").permutation(len(train))[: spec.limit]
        train = train.take(sorted(int(i) for i in chosen))
    for split in (train, val):
        if not (~split.crowd).any():
            raise InputError(f"the {split.split} images of {root} have no boxes; {len(split)} images were found")
    return train, val


def load_boxes_eval(
    spec: DetectionData, classes: tuple[str, ...], category_ids: tuple[int, ...], *, masks: bool = False
) -> BoxSet:
    """The images of a folder to evaluate a trained detector on: its validation split, or all of them.

    Raises:
        InputError: as :func:`load_boxes`; or the folder has other classes.
    """
    root = _root(spec)
    if (root / "annotations").is_dir():
        files = coco.find_files(root)
        found = coco.read_file(files.get("val") or next(iter(files.values())), "val", masks=masks)
        if (found.classes, found.category_ids) != (classes, category_ids):
            raise InputError(
                f"{root} has the classes {_listed(found.classes)}, the detector {_listed(classes)}; give images with "
                "the same, by the same ids"
            )
        return found
    lists = voc.find_lists(root)
    return voc.read_list(root, lists["val" if "val" in lists else "all"], classes, "val")


def _root(spec: DetectionData) -> Path:
    if spec.root is None:
        raise InputError("a detector needs images with boxes: --data DIR, a folder in COCO's or VOC's layout")
    root = Path(spec.root).expanduser()
    if not root.is_dir():
        problem = "is not a folder" if root.exists() else "does not exist"
        raise InputError(f"data.root {root} {problem}; give a folder in COCO's or VOC's layout")
    if not (root / "annotations").is_dir() and not (root / "Annotations").is_dir():
        raise InputError(
            f"{root} holds neither annotations (COCO's layout) nor Annotations (VOC's); give one that does"
        )
    return root


def _check_same(train: BoxSet, val: BoxSet) -> None:
    ours, theirs = (dict(zip(each.classes, each.category_ids, strict=True)) for each in (train, val))
    if common := sorted(set(train.paths) & set(val.paths)):
        raise InputError(
            f"the train and val images have {plural(len(common), 'file')} in common (first: {common[0]}); leave each "
            "in one of the two"
        )
    if ours != theirs:
        differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        raise InputError(f"the train and val images differ in the categories {_listed(differing)}; give both the same")


def _held_out(both: BoxSet, fraction: float) -> tuple[BoxSet, BoxSet]:
    count = min(max(round(len(both) * fraction), 1), len(both) - 1)
    if fraction == 0 or count < 1:
        raise InputError(
            f"data.val_fraction is {fraction} and the folder, with {len(both)} images, has no split to validate with; "
            "give one or the other"
        )
    order = [int(i) for i in stream("subset").permutation(len(both))]
    return both.take(sorted(order[count:]), split="train"), both.take(sorted(order[:count]), split="val")


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
