import numpy as np
import pytest

from senet.errors import InputError
from senet.train.detection.recipe import DetectionData
from senet.train.detection.sources import load_boxes, load_boxes_eval


def test_both_layouts_give_the_same_boxes(coco, voc):
    first, _ = load_boxes(DetectionData(root=str(coco)))
    second, _ = load_boxes(DetectionData(root=str(voc)))
    assert first.classes == ("red", "green")  # by their ids
    assert first.category_ids == (3, 90)
    assert second.classes == ("green", "red")  # by their names
    np.testing.assert_array_equal(first.boxes, second.boxes)
    assert [first.classes[i - 1] for i in first.labels] == [second.classes[i - 1] for i in second.labels]
    np.testing.assert_array_equal(first.areas, second.areas)


def test_fingerprints_tell_boxes_apart_and_do_not_know_where_they_lie(coco, tmp_path):
    train, val = load_boxes(DetectionData(root=str(coco)))
    coco.rename(tmp_path / "elsewhere")
    again, _ = load_boxes(DetectionData(root=str(tmp_path / "elsewhere")))
    assert train.fingerprint == again.fingerprint != val.fingerprint
    again.boxes[0, 0] += 1
    assert train.fingerprint != again.fingerprint


def test_a_share_is_held_out_where_nobody_says_which(coco):
    (coco / "annotations" / "instances_val2017.json").unlink()
    (coco / "annotations" / "instances_train2017.json").rename(coco / "annotations" / "all.json")
    (coco / "train2017").rename(coco / "all")
    train, val = load_boxes(DetectionData(root=str(coco), val_fraction=0.34))
    assert (len(train), len(val)) == (4, 2)
    assert not set(train.names) & set(val.names)


def test_lists_that_hold_each_other_are_no_pair(voc):
    lists = voc / "ImageSets" / "Main"
    (lists / "train.txt").rename(lists / "trainval.txt")
    (lists / "val.txt").rename(lists / "test.txt")
    train, val = load_boxes(DetectionData(root=str(voc)))
    assert (len(train), len(val)) == (6, 4)
    (lists / "val.txt").write_text("0000\n0001\n")  # of trainval
    (lists / "train.txt").write_text("0002\n0003\n0004\n0005\n")
    train, val = load_boxes(DetectionData(root=str(voc)))
    assert (len(train), len(val)) == (4, 2)


def test_two_files_that_could_be_for_validation_are_not_chosen_between(coco):
    annotations = coco / "annotations"
    for name in ("valminusminival2017", "minival2017"):
        (annotations / f"instances_{name}.json").write_bytes((annotations / "instances_val2017.json").read_bytes())
    (annotations / "instances_val2017.json").unlink()
    with pytest.raises(InputError, match=r"minival2017\.json, .*valminusminival2017\.json could each be the val split"):
        load_boxes(DetectionData(root=str(coco)))


def test_a_limit_takes_some_images_with_their_boxes(coco):
    whole, _ = load_boxes(DetectionData(root=str(coco)))
    train, val = load_boxes(DetectionData(root=str(coco), limit=3))
    assert (len(train), len(val)) == (3, 4)
    for index, name in enumerate(train.names):
        there = whole.names.index(name)
        np.testing.assert_array_equal(train.boxes[train.of(index)], whole.boxes[whole.of(there)])


def test_evaluation_takes_the_validation_split(coco, voc):
    train, val = load_boxes(DetectionData(root=str(coco)))
    found = load_boxes_eval(DetectionData(root=str(coco)), train.classes, train.category_ids)
    assert found.fingerprint == val.fingerprint
    other = load_boxes_eval(DetectionData(root=str(voc)), ("red", "green"), (1, 2))
    assert [other.classes[i - 1] for i in other.labels] == [val.classes[i - 1] for i in val.labels]


@pytest.mark.parametrize(("difficult", "learnt"), [(0, True), (1, False)])
def test_what_is_marked_difficult_is_kept_for_the_evaluation(voc, difficult, learnt):
    path = voc / "Annotations" / "0000.xml"
    path.write_text(path.read_text().replace("<difficult>0", f"<difficult>{difficult}", 1))
    train, _ = load_boxes(DetectionData(root=str(voc)))
    assert bool(~train.crowd[0]) is learnt
