from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from senet.errors import InputError
from senet.train.data import load_data, load_eval, load_split, read_image, sources
from senet.train.data.cifar import CIFAR10
from senet.train.data.preprocess import fit
from senet.train.recipe import Data

FOLDER = Data("folder", size=8, batch_size=2)


def at(root, spec=FOLDER, **changes):
    return dataclasses.replace(spec, root=str(root), **changes)


@pytest.fixture
def cifar(tmp_path):
    folder = tmp_path / "cifar" / CIFAR10.folder
    folder.mkdir(parents=True)
    chance = np.random.default_rng(0)
    for name in (*CIFAR10.train, *CIFAR10.val):
        data = chance.integers(0, 256, (20, 3073), dtype=np.uint8)
        data[:, 0] = np.arange(20) % 10
        (folder / name).write_bytes(data.tobytes())
    (folder / CIFAR10.names).write_text("\n".join("abcdefghij"))
    return folder.parent


def test_folder_is_decoded_into_memory(make_folder):
    root = make_folder({"a": 4, "b": 4}, size=(20, 12))
    seen = []
    spec = at(root, resize=10, val_fraction=0.25)
    train, val = load_data(spec, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 8) for done in range(1, 9)]
    assert (len(train), len(val)) == (6, 2)
    for image_set in (train, val):
        assert image_set.paths is None
        assert image_set.fitted
        for index, image in enumerate(image_set.images):
            path = root / image_set.names[index]
            assert torch.equal(image, fit(read_image(path, 3), spec))


def test_folder_stays_on_disk(make_folder, monkeypatch):
    root = make_folder({"a": 4, "b": 4})

    def held(**changes):
        return [image_set.images is not None for image_set in load_data(at(root, **changes))]

    in_memory, on_disk = [True, True], [False, False]
    assert held() == in_memory
    assert held(cache="disk") == on_disk
    assert held(augment="resized-crop") == on_disk
    assert held(augment="resized-crop", cache="memory") == in_memory
    monkeypatch.setattr(sources, "_MEMORY", 8 * 3 * 8 * 8)
    assert held() == in_memory
    monkeypatch.setattr(sources, "_MEMORY", 8 * 3 * 8 * 8 - 1)
    assert held() == on_disk
    assert held(cache="memory") == in_memory


def test_grey_folder(make_folder):
    spec = at(make_folder({"a": 2, "b": 2}), channels=1, mean=(0.5,), std=(0.5,))
    assert load_data(spec)[0].images.shape == (2, 1, 8, 8)


def test_limit_is_taken_before_decoding(make_folder):
    root = make_folder({"a": 10, "b": 10})
    seen = []
    train, val = load_data(at(root, limit=4), progress=lambda done, total: seen.append(total))
    assert train.labels.bincount().tolist() == [2, 2]
    assert len(val) == 2
    assert set(seen) == {6}


def assert_same(one, other):
    for field in dataclasses.fields(one):
        left, right = getattr(one, field.name), getattr(other, field.name)
        assert torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right, field.name


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize("prefixes", [("",), ("train/", "val/")])
def test_one_split_of_a_folder(make_folder, prefixes, cache):
    for prefix in prefixes:
        root = make_folder({f"{prefix}a": 5, f"{prefix}b": 6})
    spec = at(root, limit=6, val_fraction=0.2, cache=cache)
    for split, both in zip(("train", "val"), load_data(spec), strict=True):
        assert both.split == split
        assert_same(load_split(spec, split), both)


def test_one_split_of_arrays(cifar):
    for spec in (Data("cifar10", root=str(cifar), limit=30), Data("synthetic", limit=30)):
        for split, both in zip(("train", "val"), load_data(spec), strict=True):
            assert_same(load_split(spec, split), both)


def test_other_split_is_not_decoded(make_folder, monkeypatch):
    root = make_folder({"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1})
    (root / "train/a/0000.png").write_bytes(b"no")
    seen = []
    assert len(load_split(at(root), "val", progress=lambda done, total: seen.append((done, total)))) == 2
    assert seen == [(1, 2), (2, 2)]
    with pytest.raises(InputError, match="1 of 6 images are unreadable"):
        load_split(at(root), "train")
    monkeypatch.setattr(sources, "_MEMORY", 2 * 3 * 8 * 8)
    assert load_split(at(root), "val").images is not None
    assert load_split(at(root), "train").images is None


def test_split_of_another_name(make_folder):
    for spec in (at(make_folder({"a": 2, "b": 2})), Data("synthetic")):
        with pytest.raises(InputError, match=r"the split is 'test'; accepted: 'train', 'val'"):
            load_split(spec, "test")


def test_fingerprint_does_not_depend_on_place_size_or_cache(make_folder, tmp_path, monkeypatch):
    root = make_folder({"a": 4, "b": 4})
    wanted = [image_set.fingerprint for image_set in load_data(at(root))]
    assert wanted[0] != wanted[1]
    moved = shutil.copytree(root, tmp_path / "elsewhere")
    monkeypatch.chdir(root)
    specs = [at(moved), at("."), at(f"../{root.name}/a/.."), at(root, size=5, resize=7), at(root, cache="disk")]
    for spec in [*specs, at(root, channels=1, mean=(0.5,), std=(0.5,))]:
        assert [image_set.fingerprint for image_set in load_data(spec)] == wanted
        assert load_split(spec, "val").fingerprint == wanted[1]


def test_fingerprint_changes_with_the_files(make_folder):
    root = make_folder({"a": 10, "b": 10})
    before = [image_set.fingerprint for image_set in load_data(at(root, cache="disk", val_fraction=0.4))]
    shutil.copy(root / "a/0000.png", root / "a/0000b.png")
    after = [image_set.fingerprint for image_set in load_data(at(root, cache="disk", val_fraction=0.4))]
    assert not set(before) & set(after)


def test_fingerprint_of_eval_is_that_of_validation_in_training(make_folder):
    for split in ("train", "val"):
        root = make_folder({f"{split}/a": 2, f"{split}/b": 2})
    assert load_eval(at(root), classes=("a", "b")).fingerprint == load_split(at(root), "val").fingerprint
    assert load_split(at(root), "train").fingerprint != load_split(at(root), "val").fingerprint


def test_all_unreadable_images_are_named(make_folder):
    root = make_folder({"a": 3, "b": 3})
    for name in ("a/0001.png", "b/0002.png"):
        (root / name).write_bytes(b"no")
    with pytest.raises(InputError, match=r"2 of 6 images are unreadable: .*a/0001.png.*b/0002.png"):
        load_eval(at(root), classes=None)


def test_synthetic():
    train, val = load_data(Data("synthetic", limit=100))
    assert train.labels.bincount().tolist() == [10] * 10
    assert len(val) == 512
    assert len(load_eval(Data("synthetic"), classes=train.classes)) == 512


def test_cifar(cifar):
    train, val = load_data(Data("cifar10", root=str(cifar)))
    assert (len(train), len(val)) == (100, 20)
    assert val.classes == tuple("abcdefghij")


def test_channels_are_made_to_fit(cifar):
    colour, _ = load_data(Data("cifar10", root=str(cifar)))
    grey, _ = load_data(Data("cifar10", root=str(cifar), channels=1, mean=(0.5,), std=(0.5,)))
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    # torchvision has weights of four digits, and rounds down.
    assert (grey.images - (colour.images * weights).sum(1, keepdim=True)).abs().max() < 1.1


def test_grey_source_as_colour(tmp_path, monkeypatch):
    grey, _ = load_data(Data("synthetic", channels=1, mean=(0.5,), std=(0.5,)))
    found = (lambda root: True, lambda root, split: grey)
    monkeypatch.setitem(sources._ARRAYS, "fashion-mnist", found)
    train, _ = load_data(Data("fashion-mnist", root=str(tmp_path)))
    assert torch.equal(train.images, grey.images.repeat(1, 3, 1, 1))


def test_every_source_takes_a_folder(make_folder):
    root = make_folder({"a": 2, "b": 2})
    for source in ("fashion-mnist", "cifar10", "cifar100", "folder"):
        train, _ = load_data(at(root, Data(source, size=8)))
        assert train.classes == ("a", "b")


@pytest.mark.parametrize("source", ["fashion-mnist", "cifar10", "cifar100"])
def test_root_that_is_neither(source, tmp_path):
    for load in (load_data, lambda spec: load_eval(spec, classes=None)):
        with pytest.raises(InputError, match=f"holds neither the files of {source} nor class folders"):
            load(at(tmp_path, Data(source)))
        with pytest.raises(InputError, match=r"nowhere does not exist; give the folder of"):
            load(at(tmp_path / "nowhere", Data(source)))


def test_root_where_there_should_be_one_and_where_not(tmp_path):
    with pytest.raises(InputError, match=r"'folder' needs data.root"):
        load_data(FOLDER)
    with pytest.raises(InputError, match=r"'synthetic' makes its images up; remove data.root"):
        load_data(at(tmp_path, Data("synthetic")))


def test_arrays_cannot_stay_on_disk():
    with pytest.raises(InputError, match=r"data.cache is 'disk', but synthetic is read whole"):
        load_data(Data("synthetic", cache="disk"))


def test_home_is_expanded(make_folder, monkeypatch):
    root = make_folder({"a": 2, "b": 2})
    monkeypatch.setenv("HOME", str(root.parent))
    assert len(load_eval(at("~/images"), classes=None)) == 4


def test_eval_counts_labels_as_the_model_does(make_folder):
    root = make_folder({"a": 1, "b": 2, "c": 3})
    image_set = load_eval(at(root), classes=("c", "a", "b"))
    assert image_set.classes == ("c", "a", "b")
    assert image_set.labels.tolist() == [1, 2, 2, 0, 0, 0]
    assert load_eval(at(root), classes=None).labels.tolist() == [0, 1, 1, 2, 2, 2]


def test_eval_with_other_classes(make_folder):
    root = make_folder({"a": 1, "b": 1})
    with pytest.raises(InputError, match=r"the 3 classes of the model; missing: c, d; extra: b"):
        load_eval(at(root), classes=("a", "c", "d"))


def test_eval_takes_the_val_folder(make_folder):
    root = make_folder({"train/a": 1, "train/b": 1, "val/a": 2, "val/b": 2})
    assert len(load_eval(at(root), classes=("a", "b"))) == 4
    assert len(load_eval(at(root / "val"), classes=("a", "b"))) == 4


def test_animated_and_palette_files_in_a_folder(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        frames = [Image.new("P", (8, 8), index) for index in range(2)]
        frames[0].putpalette([255, 0, 0, 0, 0, 255])
        frames[0].save(tmp_path / name / "x.gif", save_all=True, append_images=frames[1:], transparency=1)
    images = load_eval(at(tmp_path), classes=None).images
    assert images[:, :, 0, 0].tolist() == [[255, 0, 0]] * 2
