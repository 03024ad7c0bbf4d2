"""Twelve kinds of bad targets and what each gets, as docs/detection.md lists them; and files that are broken."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from senet.errors import InputError
from senet.train.detection.recipe import DetectionData
from senet.train.detection.sources import load_boxes
from tests.train.detection.folders import write_coco, write_voc

DOCUMENT = Path(__file__).parents[3] / "docs" / "detection.md"


def first(**changes):
    """Changes the first annotation of those to train on."""

    def apply(content):
        content["annotations"][0].update(changes)

    return apply


def nothing_in_first_image(content):
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 100]


def twice(content):
    content["annotations"][1]["id"] = content["annotations"][0]["id"]


# kind -> what is done to the annotations, and what is said: an error, or a note with how many boxes are left
REFUSED = {
    "a coordinate that is not a number": (first(bbox=[float("nan"), 1, 10, 10]), "annotation 1000: the box is"),
    "an infinite coordinate": (first(bbox=[1, 1, float("inf"), 10]), "accepted: four finite numbers"),
    "a box of other than four numbers": (first(bbox=[1, 2, 3]), "accepted: left, top, width, height"),
    "a category that the file does not list": (first(category_id=4), "category_id is 4; known: 3, 90"),
    "an image that the file does not list": (first(image_id=7), "image_id is 7, which is none of the file's images"),
    "an id that is there twice": (twice, "annotation 1000: its id is there twice"),
}
TAKEN = {
    "no width or no height": (first(bbox=[5, 5, 0, 10]), "1 box without width or height left out", 8),
    "a negative width or height": (first(bbox=[30, 30, -10, 10]), "1 box without width or height left out", 8),
    "wholly outside of the image": (first(bbox=[500, 5, 20, 20]), "1 box outside of the image left out", 8),
    "partly outside of the image": (first(bbox=[-5, 5, 20, 200]), "1 box partly outside of the image clipped", 9),
    "a crowd, or marked difficult": (first(iscrowd=1), "1 box of crowds or marked difficult not learnt from", 9),
    "an image without boxes": (nothing_in_first_image, "train: 1 image without boxes kept", 8),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_file_and_entry(tmp_path, kind):
    change, words = REFUSED[kind]
    root = write_coco(tmp_path / "coco", change=change)
    with pytest.raises(InputError) as refused:
        load_boxes(DetectionData(root=str(root)))
    assert words in str(refused.value)
    assert "instances_train2017.json: annotation 100" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", TAKEN)
def test_left_out_clipped_or_kept_and_told(tmp_path, kind):
    change, words, boxes = TAKEN[kind]
    train, _ = load_boxes(DetectionData(root=str(write_coco(tmp_path / "coco", change=change))))
    assert any(words in note for note in train.notes)
    assert len(train.boxes) == boxes
    assert len(train) == 6  # no image goes without a word
    assert (train.boxes[:, 2:] > train.boxes[:, :2]).all()
    for index, (height, width) in enumerate(train.shapes):
        inside = train.boxes[train.of(index)]
        assert (inside >= 0).all()
        assert (inside <= [width, height, width, height]).all()


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([[float("nan"), 0, 4, 0, 4, 4]], "a polygon is .nan, 0, 4, 0, 4, 4.; accepted: x, y, x, y"),
        ([[0, 0, 1e12, 0, 4, 4]], "at most 1,000,000"),
        ([[0, 0, 4, 4]], "of three corners or more"),  # pycocotools would take it for a box
        ([0, 0, 4, 0, 4, 4], "a polygon is 0"),
        ({"size": [100_000, 100_000], "counts": "04"}, r"with the size \[48, 64\] of the image"),
        ({"counts": [0, 1]}, "run lengths with the size"),
        ("04", "segmentation is 04"),
    ],
)
def test_outlines_are_looked_at_before_they_are_decoded(tmp_path, segmentation, words):
    root = write_coco(tmp_path / "coco", change=first(segmentation=segmentation))
    with pytest.raises(InputError, match=f"annotation 1000: .*{words}"):
        load_boxes(DetectionData(root=str(root)), masks=True)
    assert len(load_boxes(DetectionData(root=str(root)))[0].boxes) == 9  # which nobody asks for else


def test_the_table_is_in_the_documentation():
    rows = re.findall(r"^\| ([a-z][^|]*?) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert {*REFUSED, *TAKEN} <= set(rows)
    assert len({*REFUSED, *TAKEN}) == 12


def test_images_without_boxes_alone_are_refused(tmp_path):
    root = write_coco(tmp_path / "coco", change=lambda content: content["annotations"].clear())
    with pytest.raises(InputError, match=r"the train images of .* have no boxes; 6 images were found"):
        load_boxes(DetectionData(root=str(root)))


def missing_image(root):
    (root / "train2017" / "0003.png").unlink()


def cut_off(root):
    path = root / "annotations" / "instances_train2017.json"
    path.write_text(path.read_text()[:200])


def other_categories(root):
    path = root / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = "blue"
    path.write_text(json.dumps(content))


def no_lists(root):
    (root / "annotations" / "instances_train2017.json").write_text('{"images": 3}')


def endless(root):
    path = root / "annotations" / "instances_train2017.json"
    path.write_text(path.read_text().replace('"height": 48', '"height": ' + 5000 * "9"))


def huge(root):
    path = root / "annotations" / "instances_train2017.json"
    path.write_text(path.read_text().replace('"height": 48', '"height": ' + 20 * "9"))


def huge_box(root):
    path = root / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"] = [10**400, 0, 10, 10]
    path.write_text(json.dumps(content))


def nested(root):
    (root / "annotations" / "instances_train2017.json").write_text(200_000 * "[")


def list_as_id(root):
    path = root / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["image_id"] = [1]
    path.write_text(json.dumps(content))


def in_first_image(**changes):
    def damage(root):
        path = root / "annotations" / "instances_train2017.json"
        content = json.loads(path.read_text())
        content["images"][0].update(changes)
        path.write_text(json.dumps(content))

    return damage


def endless_area(root):
    path = root / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["area"] = 10**400
    path.write_text(json.dumps(content))


def same_images(root):
    val = root / "annotations" / "instances_val2017.json"
    val.write_bytes((root / "annotations" / "instances_train2017.json").read_bytes())
    for split in ("train2017", "val2017"):  # both say train2017/0000.png
        path = root / "annotations" / f"instances_{split}.json"
        path.write_text(path.read_text().replace('"file_name": "', '"file_name": "train2017/'))


def not_entries(root):
    path = root / "annotations" / "instances_train2017.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": [None]}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (missing_image, r"instances_train2017\.json: image 103: there is no file .*0003\.png"),
        (cut_off, r"instances_train2017\.json is not JSON, or is cut off"),
        (other_categories, r"the train and val images differ in the categories blue, green"),
        (no_lists, r"instances_train2017\.json has no list 'categories'"),
        (not_entries, r"annotations number 0 is 'None'"),
        (endless, r"instances_train2017\.json is not JSON"),
        (huge, r"image 100: height is '9{20}'; accepted: 1 to 1,000,000 pixels"),
        (huge_box, r"annotation 1000: the box is .* of at most 1,000,000"),
        (nested, r"instances_train2017\.json is (not JSON|JSON nested too deeply)"),
        (in_first_image(file_name="../../etc/passwd"), r"image 100: file_name is '\.\./\.\./etc/passwd', "),
        (in_first_image(file_name="/etc/passwd"), r"image 100: file_name is '/etc/passwd', which may lie anywhere"),
        (in_first_image(file_name=5000 * "x"), r"its first image, x{400}, lies in none of"),
        (in_first_image(file_name="\ud800"), r"its first image, .*, lies in none of"),
        (endless_area, r"annotation 1000: area is '10{39}'; accepted: pixels"),
        (same_images, r"the train and val images have 6 files in common \(first: .*0000\.png\)"),
        (list_as_id, r"annotation 1000: its id, image_id or category_id is no whole number"),
    ],
)
def test_broken_files_in_coco_s_layout(coco, damage, words):
    damage(coco)
    with pytest.raises(InputError, match=words):
        load_boxes(DetectionData(root=str(coco)))


BOMB = '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;">]>'


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("<annotation>", "<annotation", r"0000\.xml is not XML, or is cut off"),
        ("<annotation>", "<?xml version='1.0' encoding='klingon'?><annotation>", r"0000\.xml is not XML"),
        ("<width>", "<width>9999999999", r"0000\.xml: the size has the width '9999999999"),
        ("<annotation>", BOMB + "<annotation>", r"0000\.xml declares a document type"),
        ("<name>red", "<name>rad", r"0000\.xml: object 1: its name is 'rad'; did you mean 'red'"),
        ("<name>red", "<name>", r"0000\.xml: object 1 has no name"),
        ("<xmin>", "<xmin>no", r"0000\.xml: object 1: xmin is 'no"),
        ("<xmin>", "<xmin>nan</xmin><xmin>", r"0000\.xml: object 1: the box is \[nan"),
        ("<width>", "<width>-", r"0000\.xml: the size has the width '-"),
        ("0000.png", "../0000.png", None),  # a name with a path in it is not followed
    ],
)
def test_broken_files_in_voc_s_layout(tmp_path, old, new, words):
    root = write_voc(tmp_path / "voc")
    path = root / "Annotations" / "0000.xml"
    path.write_text(path.read_text().replace(old, new, 1))
    if words is None:
        train, _ = load_boxes(DetectionData(root=str(root)))
        assert train.paths[0] == root / "JPEGImages" / "0000.png"
        return
    spec = DetectionData(root=str(root))
    if "rad" in new:  # the classes are those of the images to train on: one of the others has it
        path.rename(root / "Annotations" / "0006.xml")
        (root / "ImageSets/Main/train.txt").write_text("0001\n0002\n0003\n")
        words = words.replace("0000", "0006")
    with pytest.raises(InputError, match=words):
        load_boxes(spec)


def test_images_are_not_sought_outside_of_the_folder_even_behind_the_first(tmp_path):
    secret = tmp_path / "secret.png"
    root = write_coco(tmp_path / "coco", change=lambda content: content["images"][1].update(file_name=str(secret)))
    (root / "train2017" / "0001.png").rename(secret)
    with pytest.raises(InputError, match=r"image 101: file_name is .*secret.png', which may lie anywhere"):
        load_boxes(DetectionData(root=str(root)))


def test_a_file_of_annotations_does_not_name_another_folder_by_its_own_name(coco):
    (coco / "annotations" / "instances_val2017.json").unlink()
    (coco / "annotations" / "instances_train2017.json").rename(coco / "annotations" / "instances_...json")
    with pytest.raises(InputError, match=r"instances_\.\.\.json: its name is '\.\.', which may lie anywhere"):
        load_boxes(DetectionData(root=str(coco)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("../../secret\n", r"val\.txt: a name is '\.\./\.\./secret', which may lie anywhere"),
        ("/etc/passwd\n", r"val\.txt: a name is '/etc/passwd', which may lie anywhere"),
        ("0006\n0006\n", r"val\.txt has the image 0006 twice"),
        ("0000\n", r"the train and val images have 1 file in common"),
        ("", r"val\.txt names no images"),
    ],
)
def test_lists_in_voc_s_layout(voc, content, words):
    (voc / "ImageSets/Main/val.txt").write_text(content)
    with pytest.raises(InputError, match=words):
        load_boxes(DetectionData(root=str(voc)))


@pytest.mark.parametrize(
    ("root", "words"),
    [(None, "needs images with boxes: --data DIR"), ("nowhere", "does not exist"), (".", "holds neither annotations")],
)
def test_folders_that_are_none(tmp_path, root, words):
    spec = DetectionData(root=None if root is None else str(tmp_path / root))
    with pytest.raises(InputError, match=words):
        load_boxes(spec)
