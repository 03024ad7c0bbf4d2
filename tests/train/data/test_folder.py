from __future__ import annotations

import os
import shutil

import pytest

from senet.errors import InputError
from senet.train.data.folder import list_eval, list_train_val


def test_splits_side_by_side(make_folder):
    for split, counts in (("train", {"cat": 3, "ant": 2}), ("val", {"ant": 1, "cat": 1})):
        root = make_folder({f"{split}/{name}": count for name, count in counts.items()})
    train, val = list_train_val(root, 0.1)
    assert train.classes == val.classes == ("ant", "cat")
    assert train.names == tuple(
        f"train/{name}.png" for name in ("ant/0000", "ant/0001", "cat/0000", "cat/0001", "cat/0002")
    )
    assert val.names == ("val/ant/0000.png", "val/cat/0000.png")
    assert train.labels.tolist() == [0, 0, 1, 1, 1]
    assert train.paths[3] == root / "train/cat/0001.png"
    assert list_eval(root).names == val.names


@pytest.mark.parametrize("name", ["valid", "validation", "test"])
def test_other_names_of_the_validation_split(make_folder, name):
    root = make_folder({"train/a": 1, "train/b": 1, f"{name}/a": 1, f"{name}/b": 2})
    assert len(list_train_val(root, 0.1)[1]) == 3
    shutil.rmtree(root / "train")
    assert len(list_eval(root)) == 3


def test_val_comes_before_test(make_folder):
    root = make_folder({"train/a": 1, "train/b": 1, "test/a": 5, "test/b": 5, "val/a": 1, "val/b": 1})
    assert len(list_train_val(root, 0.1)[1]) == len(list_eval(root)) == 2


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_hold_out(make_folder, prefix):
    root = make_folder({f"{prefix}a": 20, f"{prefix}b": 10, f"{prefix}c": 2})
    train, val = list_train_val(root, 0.2)
    assert (train.split, val.split) == ("train", "val")
    assert val.labels.bincount().tolist() == [4, 2, 1]
    assert train.labels.bincount().tolist() == [16, 8, 1]
    assert len(set(train.paths) | set(val.paths)) == 32
    assert list_train_val(root, 0.2)[1].paths == val.paths


def test_classes_may_be_called_like_splits(make_folder):
    root = make_folder({"train": 2, "test": 2, "bus": 2})
    train, _ = list_train_val(root, 0.5)
    assert train.classes == list_eval(root).classes == ("bus", "test", "train")


def test_deep_folders_and_what_is_no_image(make_folder):
    root = make_folder({"a": 1, "a/deep/er": 1, "b": 1, ".hidden": 1, "b/.thumbnails": 1})
    (root / "a/readme.txt").touch()
    (root / "a/.0000.png").touch()
    (root / "a/UPPER.JPG").touch()
    (root / "loose.png").touch()
    (root / "b/link").symlink_to(root / "a/deep")
    image_set = list_eval(root)
    wanted = ("a/0000.png", "a/UPPER.JPG", "a/deep/er/0000.png", "b/0000.png", "b/link/er/0000.png")
    assert image_set.names == wanted
    assert image_set.classes == ("a", "b")


def test_splits_with_other_classes(make_folder):
    root = make_folder({"train/ant": 1, "train/bee": 1, "val/ant": 1, "val/cow": 1})
    with pytest.raises(InputError, match="of the train images; missing: bee; extra: cow"):
        list_train_val(root, 0.1)


def test_not_a_folder_of_classes(make_folder, tmp_path):
    root = make_folder({"one": 1})
    for given, message in [
        (tmp_path / "nowhere", "nowhere does not exist; give"),
        (root / "one/0000.png", "is not a folder; give"),
        (root / "one", "but holds none"),
        (root, "but holds only one, 'one'"),
    ]:
        for refuse in (lambda given=given: list_train_val(given, 0.1), lambda given=given: list_eval(given)):
            with pytest.raises(InputError, match=message):
                refuse()


def test_class_without_images(make_folder):
    root = make_folder({"a": 2, "b": 0})
    with pytest.raises(InputError, match=r"class folder .*/b holds no image \(\.bmp "):
        list_train_val(root, 0.1)


def test_class_too_small_to_hold_out_of(make_folder):
    with pytest.raises(InputError, match="class 'b' has one image"):
        list_train_val(make_folder({"a": 2, "b": 1}), 0.1)


def test_train_alone_cannot_be_evaluated_on(make_folder):
    with pytest.raises(InputError, match="has a train folder, but none of val, valid, validation, test"):
        list_eval(make_folder({"train/a": 1, "train/b": 1}))


def test_empty_val_folder_is_not_passed_over(make_folder):
    root = make_folder({"train/a": 2, "train/b": 2})
    (root / "val").mkdir()
    with pytest.raises(InputError, match=r"val should hold at least two class folders"):
        list_train_val(root, 0.5)


def test_folder_that_cannot_be_listed_is_not_passed_over(make_folder, monkeypatch):
    root = make_folder({"a": 1, "a/closed": 1, "b": 1})
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # the tests may run as root, who may read everything
    with pytest.raises(InputError, match=r"cannot list folder .*closed: Permission denied"):
        list_eval(root)
