from __future__ import annotations

import pytest
import torch

from senet.errors import InputError
from senet.train.data.subset import balanced, held_out

LABELS = torch.tensor([0] * 50 + [1] * 20 + [2] * 3)
CLASSES = ("a", "b", "c")


def test_balanced_takes_the_classes_equally_while_they_last():
    assert LABELS[balanced(LABELS, CLASSES, 6)].bincount().tolist() == [2, 2, 2]
    assert LABELS[balanced(LABELS, CLASSES, 8)].bincount().tolist() == [3, 3, 2]
    assert LABELS[balanced(LABELS, CLASSES, 23)].bincount().tolist() == [10, 10, 3]
    assert LABELS[balanced(LABELS, CLASSES, 63)].bincount().tolist() == [40, 20, 3]


def test_balanced_is_ascending_without_repetition_and_not_just_the_first():
    chosen = balanced(LABELS, CLASSES, 30)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert chosen[LABELS[chosen] == 0].max() > 20
    assert torch.equal(chosen, balanced(LABELS, CLASSES, 30))


def test_a_larger_limit_is_everything():
    assert balanced(LABELS, CLASSES, 1000).tolist() == list(range(73))


def test_limit_below_the_number_of_classes():
    with pytest.raises(InputError, match=r"data.limit is 2, fewer than the 3 classes"):
        balanced(LABELS, CLASSES, 2)


@pytest.mark.parametrize(("fraction", "wanted"), [(0.1, [5, 2, 1]), (0.5, [25, 10, 2]), (0.999, [49, 19, 2])])
def test_held_out_is_a_share_of_each_class_but_never_all_or_none(fraction, wanted):
    held = held_out(LABELS, CLASSES, fraction)
    assert LABELS[held].bincount().tolist() == wanted
    assert torch.equal(held, held_out(LABELS, CLASSES, fraction))


def test_nothing_to_hold_out():
    with pytest.raises(InputError, match="class 'b' has one image"):
        held_out(torch.tensor([0, 0, 1, 2, 2]), CLASSES, 0.1)
    with pytest.raises(InputError, match=r"data.val_fraction is 0"):
        held_out(LABELS, CLASSES, 0.0)
