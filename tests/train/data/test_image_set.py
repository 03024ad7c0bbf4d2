from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch

from senet.errors import InputError
from senet.train.data import ImageSet

FILES = ImageSet(
    "val",
    ("a", "b"),
    torch.tensor([0, 1, 1]),
    paths=(Path("x"), Path("y"), Path("z")),
    names=("a/x", "b/y", "b/z"),
    sizes=(1, 2, 3),
)


IMAGES = torch.arange(3 * 2 * 4, dtype=torch.uint8).view(3, 1, 2, 4)
ARRAYS = ImageSet("val", ("a", "b"), torch.tensor([0, 1, 1]), IMAGES)


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": ("a", "c")},
        {"labels": torch.tensor([0, 1, 0])},
        {"names": ("a/x", "b/y", "b/w")},
        {"names": ("a/x", "b/z", "b/y")},
        {"sizes": (1, 2, 4)},
    ],
)
def test_fingerprint_of_files_tells_them_apart(changes):
    assert dataclasses.replace(FILES, **changes).fingerprint != FILES.fingerprint


def test_fingerprint_of_files_is_of_their_names_and_sizes():
    moved = dataclasses.replace(FILES, paths=(Path("/else/x"), Path("/else/y"), Path("/else/z")))
    decoded = [dataclasses.replace(FILES, paths=None, images=IMAGES[:, :, :, :size], fitted=True) for size in (4, 2)]
    assert {other.fingerprint for other in (moved, *decoded)} == {FILES.fingerprint}
    assert re.fullmatch("[0-9a-f]{16}", FILES.fingerprint)


def test_fingerprint_of_arrays_is_of_all_pixels_and_their_shape():
    pixels = [IMAGES.clone() for _ in range(IMAGES.numel())]
    for position, image in enumerate(pixels):
        image.view(-1)[position] += 1
    others = [dataclasses.replace(ARRAYS, images=images) for images in (*pixels, IMAGES.view(3, 1, 4, 2))]
    others += [dataclasses.replace(ARRAYS, classes=("a", "c")), dataclasses.replace(ARRAYS, labels=FILES.labels * 0)]
    found = {other.fingerprint for other in others}
    assert len(found - {ARRAYS.fingerprint}) == len(others)
    layout = IMAGES.to(memory_format=torch.channels_last).clone()
    again = dataclasses.replace(ARRAYS, images=layout, labels=FILES.labels.clone())
    assert again.fingerprint == ARRAYS.fingerprint


def test_fingerprint_of_names_that_are_no_text():
    """A file's name may be any bytes; Python hands those that are no UTF-8 over as lone surrogates."""
    odd = dataclasses.replace(FILES, names=("a/x", "b/y", "b/\udcff"))
    assert odd.fingerprint != FILES.fingerprint


def test_files_have_names():
    with pytest.raises(AssertionError, match="files have names"):
        dataclasses.replace(FILES, names=None)


def test_take():
    part = FILES.take(torch.tensor([2, 0]))
    assert part.labels.tolist() == [1, 0]
    assert part.paths == (Path("z"), Path("x"))
    assert part.names == ("b/z", "a/x")
    assert part.sizes == (3, 1)
    images = torch.arange(3).view(3, 1, 1, 1)
    assert ImageSet("val", ("a",), torch.zeros(3).long(), images).take(torch.tensor([2])).images.item() == 2


def test_relabel():
    other = FILES.relabel(("b", "a"))
    assert other.classes == ("b", "a")
    assert other.labels.tolist() == [1, 0, 0]
    with pytest.raises(
        InputError, match=r"the val images should have the 3 classes of the model; missing: c, d; extra: b"
    ):
        FILES.relabel(("a", "c", "d"))


def test_long_lists_of_classes_are_cut():
    with pytest.raises(
        InputError, match=r"missing: x00, x01, x02, x03, x04, x05, x06, x07 and 92 more; extra: a, b; give"
    ):
        FILES.relabel(tuple(f"x{number:02}" for number in range(100)))


def test_images_or_paths_never_both_or_neither():
    labels = torch.tensor([0])
    for parts in ({}, {"images": torch.zeros(1, 1, 2, 2), "paths": (Path("x"),)}, {"paths": ()}):
        with pytest.raises(AssertionError, match="images or paths"):
            ImageSet("val", ("a",), labels, **parts)
