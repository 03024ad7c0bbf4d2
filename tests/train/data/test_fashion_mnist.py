from __future__ import annotations

import gzip
import hashlib
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import FashionMNIST

from senet.errors import InputError
from senet.train.data import fashion_mnist
from senet.train.data.fashion_mnist import find_files, read_split

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9], np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "fashion"
    folder.mkdir()
    for start, part in (("train", slice(0, 4)), ("t10k", slice(4, 6))):
        (folder / f"{start}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES[part])))
        (folder / f"{start}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS[part])))
    return folder


def test_both_splits(files):
    for split, part in (("train", slice(0, 4)), ("val", slice(4, 6))):
        image_set = read_split(files, split)
        assert image_set.images[:, 0].numpy().tolist() == IMAGES[part].tolist()
        assert image_set.labels.tolist() == LABELS[part].tolist()
    assert image_set.classes[image_set.labels[1]] == "Ankle boot"


def test_unpacked_files(files):
    for path in list(files.iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert len(read_split(files, "train")) == 4


def test_system_directory_comes_first(files, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "SYSTEM_DIR", files)
    assert len(read_split(None, "val")) == 2


def test_incomplete_folder_is_not_it(files):
    (files / "t10k-labels-idx1-ubyte.gz").unlink()
    assert find_files(files) is None


def test_label_out_of_range(files):
    path = files / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.array([1, 2, 10, 3], np.uint8))))
    with pytest.raises(InputError, match=f"{path}: label 2 is 10; accepted: 0 to 9"):
        read_split(files, "train")


def test_as_many_labels_as_images(files):
    (files / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(LABELS)))
    with pytest.raises(InputError, match=r"holds 4 images, but .* 6 labels"):
        read_split(files, "train")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda whole: whole[: len(whole) // 2], "cannot read"),
        (lambda whole: b"hello", "cannot read"),
        (lambda whole: gzip.compress(gzip.decompress(whole)[:-5]), "header says 3136"),
        (lambda whole: gzip.compress(gzip.decompress(whole) + b"more"), "has 3140 bytes of data"),
        (lambda whole: gzip.compress(b"\0\0\x08\x01" + gzip.decompress(whole)[4:]), "not an idx file of bytes in 3"),
        (lambda whole: gzip.compress(b"\0\0\x0d\x03" + gzip.decompress(whole)[4:]), "not an idx file"),
        (lambda whole: gzip.compress(b""), "not an idx file"),
    ],
)
def test_damaged_file(files, damage, message):
    path = files / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=re.escape(str(path))) as caught:
        read_split(files, "train")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_download_into_the_cache(files, tmp_path, monkeypatch, serve):
    monkeypatch.setattr(fashion_mnist, "SYSTEM_DIR", tmp_path / "nowhere")
    monkeypatch.setenv("SENET_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(FashionMNIST, "mirrors", [serve(files)])
    hashes = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in files.iterdir()]
    monkeypatch.setattr(FashionMNIST, "resources", hashes)
    assert len(read_split(None, "train")) == 4
    assert len(list((tmp_path / "cache/fashion-mnist").glob("*.gz"))) == 4


def test_no_way_names_both_ways(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "SYSTEM_DIR", tmp_path / "nowhere")
    monkeypatch.setenv("SENET_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(FashionMNIST, "mirrors", [f"{tmp_path.as_uri()}/nothing/"])
    with pytest.raises(InputError) as caught:
        read_split(None, "train")
    message = str(caught.value)
    assert "cannot download file://" in message
    assert "No such file" in message
    assert "dataset-fashion-mnist" in message
    assert "data.root" in message
    assert "\n" not in message


@pytest.mark.skipif(not fashion_mnist.SYSTEM_DIR.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_files():
    train, val = (read_split(None, split) for split in ("train", "val"))
    assert train.images.shape == (60000, 1, 28, 28)
    assert val.images.shape == (10000, 1, 28, 28)
    assert train.labels.bincount().tolist() == [6000] * 10
    assert val.labels.bincount().tolist() == [1000] * 10
    assert train.labels[:5].tolist() == [9, 0, 0, 3, 0]  # as the authors' own reader prints them
    assert abs(train.images.double().mean().item() / 255 - 0.2860) < 5e-5  # the mean everybody normalises with
    assert abs(train.images.double().std().item() / 255 - 0.3530) < 5e-5
