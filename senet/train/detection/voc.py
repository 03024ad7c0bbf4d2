"""PASCAL VOC's layout: ``Annotations/*.xml``, ``JPEGImages``, and lists of images in ``ImageSets/Main``.

Boxes are corners, 1-based and inclusive: one is taken off the left and the top. Objects marked ``difficult`` are not
learnt from, as in the challenge's own evaluation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from senet.errors import InputError, did_you_mean
from senet.train.data.folder import EXTENSIONS
from senet.train.detection.box_set import Annotation, BoxSet, Picture
from senet.train.detection.boxes import MOST_PIXELS, Judge
from senet.train.detection.names import check_inside, is_file

__all__ = ["find_lists", "names_in", "read_list"]


def find_lists(root: Path) -> dict[str, list[str]]:
    """Names of images by split, ``"train"`` and ``"val"``; all as ``"all"`` where no lists say which are which.

    Raises:
        InputError: there are none, a list cannot be read, has an image twice, or names something outside of the folder.
    """
    lists = root / "ImageSets" / "Main"
    for pair in (("train", "val"), ("trainval", "test"), ("train", "test")):  # trainval holds what val does
        paths = [lists / f"{file}.txt" for file in pair]
        if all(path.is_file() for path in paths):
            return {split: _names(path) for split, path in zip(("train", "val"), paths, strict=True)}
    names = sorted(path.stem for path in (root / "Annotations").glob("*.xml"))
    if not names:
        raise InputError(f"{root / 'Annotations'} holds no .xml file; give a folder in COCO's or VOC's layout")
    return {"all": names}


def _names(path: Path) -> list[str]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    names = [check_inside(line.split()[0], f"{path}: a name") for line in lines if line.strip()]
    if not names:
        raise InputError(f"{path} names no images")
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise InputError(f"{path} has the image {twice} twice; give each once")
    return names


def names_in(root: Path, names: Sequence[str]) -> list[str]:
    """The names of the classes of some images, sorted."""
    found = {_text(thing, "name", where) for name in names for thing, where in _objects(root, name)}
    if not found:
        raise InputError(f"{root / 'Annotations'} has no object in {len(names)} files, so there is nothing to learn")
    return sorted(found)


def read_list(root: Path, names: Sequence[str], classes: Sequence[str], split: str) -> BoxSet:
    """The images of a list and their boxes; category ids are 1 to the number of classes.

    Args:
        root: the folder.
        names: of the images, without suffix.
        classes: in the order of their labels.
        split: what errors and notes call it.

    Raises:
        InputError: a file is missing or not as it should be, or has an object of another class; names it.
    """
    judge, pictures = Judge(), []
    for name in names:
        tree, path = _parse(root, name)
        file = _image(root, name, tree)
        size = _size(tree, path)
        annotations = []
        for thing, where in _objects(root, name, tree):
            kind = _text(thing, "name", where)
            if kind not in classes:
                raise InputError(f"{where}: its name is {kind!r}{did_you_mean(kind, classes)}")
            corners = _corners(thing, where)
            if corners[2] <= corners[0] or corners[3] <= corners[1]:
                judge.count("degenerate", where)
                continue
            box = judge.clip((corners[0] - 1, corners[1] - 1, *corners[2:]), size, where)
            if box is None:
                continue
            difficult = (thing.findtext("difficult") or "0").strip() == "1"
            if difficult:
                judge.count("crowd", where)
            area = (box[2] - box[0]) * (box[3] - box[1])
            annotations.append(Annotation(box, list(classes).index(kind) + 1, difficult, area))
        judge.empty += all(annotation.crowd for annotation in annotations)
        pictures.append(Picture(file, file.relative_to(root).as_posix(), name, *size, tuple(annotations)))
    return BoxSet(split, classes, range(1, len(classes) + 1), pictures, judge.notes(split))


def _parse(root: Path, name: str) -> tuple[Element, Path]:
    """An annotation's tree. What a document type declares is refused, so that no entity is ever expanded."""
    path = root / "Annotations" / f"{name}.xml"

    def refuse(*_: object) -> None:
        raise InputError(f"{path} declares a document type, with which a file can grow without bound; take it out")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(path.read_bytes(), True)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except InputError:
        raise
    except (expat.ExpatError, LookupError, ValueError) as error:  # the latter of encodings that expat does not know
        raise InputError(f"{path} is not XML, or is cut off: {error}") from None
    return builder.close(), path


def _objects(root: Path, name: str, tree: Element | None = None) -> list[tuple[Element, str]]:
    """The objects of an image, and how errors call each."""
    found = _parse(root, name)[0] if tree is None else tree
    path = root / "Annotations" / f"{name}.xml"
    return [(thing, f"{path}: object {number}") for number, thing in enumerate(found.findall("object"), 1)]


def _text(thing: Element, name: str, where: str) -> str:
    text = (thing.findtext(name) or "").strip()
    if not text:
        raise InputError(f"{where} has no {name}; accepted: a {name} and a bndbox")
    return text


def _corners(thing: Element, where: str) -> tuple[float, float, float, float]:
    found = []
    for name in ("xmin", "ymin", "xmax", "ymax"):
        text = (thing.findtext(f"bndbox/{name}") or "").strip()
        try:
            found.append(float(text))
        except ValueError:
            raise InputError(f"{where}: {name} is {text!r}; accepted: a number") from None
    left, top, right, bottom = found
    if not all(abs(x) < float("inf") for x in found):  # comparisons with what is no number would pass it on
        raise InputError(f"{where}: the box is {found}; accepted: four finite numbers")
    return left, top, right, bottom


def _size(tree: Element, path: Path) -> tuple[int, int]:
    found = []
    for name in ("height", "width"):
        text = (tree.findtext(f"size/{name}") or "").strip()
        if not text.isdecimal() or len(text) > 7 or not 1 <= int(text) <= MOST_PIXELS:
            raise InputError(f"{path}: the size has the {name} {text[:40]!r}; accepted: 1 to {MOST_PIXELS:,} pixels")
        found.append(int(text))
    return found[0], found[1]


def _image(root: Path, name: str, tree: Element) -> Path:
    folder = root / "JPEGImages"
    told = (tree.findtext("filename") or "").strip()
    candidates = [folder / told] if told and Path(told).name == told else []
    candidates += [folder / f"{name}{suffix}" for suffix in sorted(EXTENSIONS)]
    for file in candidates:
        if is_file(file):
            return file
    raise InputError(f"{root / 'Annotations' / f'{name}.xml'}: there is no image {name} in {folder}")
