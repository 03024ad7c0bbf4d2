from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from senet.errors import InputError
from senet.train.data.cifar import CIFAR10, CIFAR100, Cifar

BOTH = pytest.mark.parametrize("cifar", [CIFAR10, CIFAR100], ids=["cifar10", "cifar100"])


def records(cifar: Cifar, labels: list[int], seed: int) -> np.ndarray:
    """Records as on disk: (coarse label,) label, then pixels."""
    data = np.random.default_rng(seed).integers(0, 256, (len(labels), cifar.label_bytes + 3072), dtype=np.uint8)
    data[:, cifar.label_bytes - 1] = labels
    return data


def write(cifar: Cifar, root: Path) -> Path:
    folder = root / cifar.folder
    folder.mkdir(parents=True)
    for seed, name in enumerate((*cifar.train, *cifar.val)):
        (folder / name).write_bytes(records(cifar, [seed, cifar.classes - 1], seed).tobytes())
    (folder / cifar.names).write_text("".join(f"class{number}\n" for number in range(cifar.classes)) + "\n")
    return folder


def pack(cifar: Cifar, folder: Path) -> Path:
    archive = folder.parent / cifar.archive
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=cifar.folder)
    shutil.rmtree(folder)
    return archive


@BOTH
def test_records_are_read(cifar, tmp_path):
    write(cifar, tmp_path)
    train, val = (cifar.read_split(tmp_path, split) for split in ("train", "val"))
    assert train.images.shape == (2 * len(cifar.train), 3, 32, 32)
    assert train.labels.dtype == torch.int64
    assert train.labels.tolist() == [label for seed in range(len(cifar.train)) for label in (seed, cifar.classes - 1)]
    assert train.classes == tuple(f"class{number}" for number in range(cifar.classes))
    record = records(cifar, [len(cifar.train), 0], len(cifar.train))[0]
    assert len(val) == 2
    for channel, row, column in [(0, 0, 0), (1, 2, 3), (2, 31, 31)]:
        wanted = record[cifar.label_bytes + channel * 1024 + row * 32 + column]
        assert val.images[0, channel, row, column] == wanted


@BOTH
def test_folder_its_parent_and_the_archive_are_the_same(cifar, tmp_path):
    folder = write(cifar, tmp_path)
    wanted = cifar.read_split(folder, "train")
    found = [cifar.read_split(tmp_path, "train")]
    archive = pack(cifar, folder)
    found += [cifar.read_split(archive, "train"), cifar.read_split(tmp_path, "train")]
    for image_set in found:
        assert torch.equal(image_set.images, wanted.images)
        assert torch.equal(image_set.labels, wanted.labels)
    assert not folder.exists()  # nothing was unpacked


def test_label_out_of_range(tmp_path):
    folder = write(CIFAR10, tmp_path)
    (folder / "data_batch_3.bin").write_bytes(records(CIFAR10, [1, 9, 10], 0).tobytes())
    with pytest.raises(InputError, match=r"data_batch_3.bin in .*: label of record 2 is 10; accepted: 0 to 9"):
        CIFAR10.read_split(tmp_path, "train")


@pytest.mark.parametrize("keep", [0, 3000, 3074])
def test_truncated_file(tmp_path, keep):
    folder = write(CIFAR10, tmp_path)
    (folder / "test_batch.bin").write_bytes(bytes(keep))
    with pytest.raises(InputError, match=rf"test_batch.bin in .* has {keep} bytes, not whole records of 3073"):
        CIFAR10.read_split(tmp_path, "val")


def test_wrong_number_of_names(tmp_path):
    folder = write(CIFAR10, tmp_path)
    (folder / "batches.meta.txt").write_text("cat\ndog\n")
    with pytest.raises(InputError, match=r"batches.meta.txt in .* has 2 class names, not 10"):
        CIFAR10.read_split(tmp_path, "val")


def test_damaged_archive(tmp_path):
    archive = pack(CIFAR10, write(CIFAR10, tmp_path))
    whole = archive.read_bytes()
    for content in (whole[: len(whole) // 2], b"nothing", b""):
        archive.write_bytes(content)
        with pytest.raises(InputError, match=f"^cannot read {re.escape(str(archive))}: ") as caught:
            CIFAR10.read_split(tmp_path, "train")
        assert "\n" not in str(caught.value)


def test_archive_that_lacks_a_file(tmp_path):
    folder = write(CIFAR10, tmp_path)
    (folder / "data_batch_2.bin").unlink()
    pack(CIFAR10, folder)
    with pytest.raises(InputError, match=r"lacks data_batch_2.bin"):
        CIFAR10.read_split(tmp_path, "train")


def test_incomplete_folder_is_not_it(tmp_path):
    folder = write(CIFAR10, tmp_path)
    (folder / "data_batch_2.bin").unlink()
    assert CIFAR10.find_files(tmp_path) is None


def test_download_checks_the_hash(tmp_path, monkeypatch, serve):
    archive = pack(CIFAR10, write(CIFAR10, tmp_path / "server"))
    monkeypatch.setenv("SENET_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(Cifar, "base_url", serve(archive.parent))
    with pytest.raises(InputError, match=r"cannot download .*corrupted.* give its folder as data.root"):
        CIFAR10.read_split(None, "train")
    known = dataclasses.replace(CIFAR10, md5=hashlib.md5(archive.read_bytes()).hexdigest())
    assert len(known.read_split(None, "train")) == 10
    assert (tmp_path / "cache/cifar" / CIFAR10.archive).is_file()


def test_no_way_names_both_ways(tmp_path, monkeypatch):
    monkeypatch.setenv("SENET_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(Cifar, "base_url", f"{tmp_path.as_uri()}/nothing/")
    with pytest.raises(InputError, match=r"cannot download file.*No such file.*fetch cifar-100-binary") as caught:
        CIFAR100.read_split(None, "val")
    assert "\n" not in str(caught.value)
