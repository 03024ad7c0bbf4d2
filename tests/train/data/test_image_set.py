from __future__ import annotations

from pathlib import Path

import pytest
import torch

from senet.errors import InputError
from senet.train.data import ImageSet

FILES = ImageSet(
    "val", ("a", "b"), torch.tensor([0, 1, 1]), paths=(Path("x"), Path("y"), Path("z")), names=("a/x", "b/y", "b/z")
)


def test_names():
    assert [FILES.name(index) for index in range(len(FILES))] == ["a/x", "b/y", "b/z"]
    assert ImageSet("test", ("a",), torch.zeros(2).long(), torch.zeros(2, 1, 4, 4)).name(1) == "test[1]"


def test_take():
    part = FILES.take(torch.tensor([2, 0]))
    assert part.labels.tolist() == [1, 0]
    assert part.paths == (Path("z"), Path("x"))
    assert part.names == ("b/z", "a/x")
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
