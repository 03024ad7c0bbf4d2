from __future__ import annotations

import pytest
import torch

from senet.analysis.gates.statistics import Site
from senet.analysis.lab.answer import answer, notes
from senet.analysis.lab.leave_out import ALL, Change, Effect, LeaveOneOut
from senet.analysis.lab.result import Excitation

NEITHER = "neither a constant nor another image's gates do as well."
SAME, SMALL, LOSS, WORSE, GAIN = (Change(400, *c) for c in ((0, 0), (4, 6), (2, 30), (0, 90), (40, 1)))


def found(changes, *, top1=80.0, moving=True, shuffled=LOSS, blocks=None, planes=()):
    """What the lab finds where the gates of each block at their mean and at 1 change so much."""
    effects = [
        Effect(site, how, change, None)
        for site, (mean, one) in (*changes.items(), (ALL, (LOSS, WORSE)))
        for how, change in (("mean", mean), ("one", one), ("shuffled", shuffled))
        if site != ALL or len(changes) > 1
    ]
    zeros = torch.zeros(2, 3, dtype=torch.float64)
    site = Site(torch.tensor([200.0, 200.0]).double(), zeros + 0.5, zeros + 200 * 0.1 * moving)
    sites = dict.fromkeys(changes, site)
    left_out = LeaveOneOut(400, 81.0, None, tuple(effects))
    return Excitation(
        "net", ("a", "b"), (0, 1), 1400, top1, sites, {}, (0, 1), {}, left_out, (), blocks or len(sites), planes
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"a": (LOSS, WORSE), "b": (WORSE, LOSS), "c": (SAME, LOSS), "d": (LOSS, SMALL)},
         f"2 of 4 blocks have to follow the image: {NEITHER} Most of all a, where the better of the two constants, "
         "the mean gates or 1, changes top-1 by −7.00 ± 1.37 points. d could be left out, the gates at 1, "
         "without a loss that can be seen. c could do with constants, the mean gates."),
        ({"a": (LOSS, LOSS), "b": (WORSE, WORSE)},
         f"All 2 blocks have to follow the image: {NEITHER} Most of all b,"),
        ({"a": (LOSS, LOSS), "b": (SAME, SAME)}, "1 of 2 blocks has to follow the image"),
        ({"a": (SAME, GAIN), "b": (SMALL, SAME)},
         "None of 2 blocks has to follow the image, as far as 400 images can tell: a constant does as well. "
         "a and b could each alone be left out"),
        ({"a": (SMALL, LOSS)}, "The only block does not have to follow the image, as far as 400 images can tell: "
         "a constant does as well. a could do with constants, the mean gates."),
        ({"a": (LOSS, LOSS)}, f"The only block has to follow the image: {NEITHER}"),
        (dict.fromkeys("abcdef", (SAME, SAME)), "a, b, c and 3 more could each alone be left out"),
    ],
)  # fmt: skip
def test_the_answer(changes, said):
    assert said in answer(found(changes))


def test_where_another_images_gates_do_as_well():
    assert answer(found({"a": (LOSS, WORSE)}, shuffled=SMALL)) == (
        "The only block does not have to follow the image, as far as 400 images can tell: a constant or another "
        "image's gates do as well. For a no constant does as well, but another image's gates do."
    )


def test_of_some_blocks_alone():
    some = found({"a": (LOSS, WORSE), "b": (LOSS, LOSS)}, blocks=3)
    assert "All 2 blocks looked at (2 of 3) have to follow" in answer(some)
    assert notes(some)[0].startswith("With the gates of the blocks looked at (2 of 3) at once")
    assert "The block looked at (1 of 3) has to" in answer(found({"a": (LOSS, LOSS)}, blocks=3))
    assert "None of 2 blocks looked at (2 of 3) has" in answer(found({"a": (SAME, SAME), "b": (SAME, SAME)}, blocks=3))


def test_gates_that_differ_over_positions_are_not_called_constant():
    still = notes(found({"a": (LOSS, LOSS), "b": (LOSS, LOSS)}, moving=False, planes=("b",)))
    assert still[1:3] == [
        "Of 3 gates 3 hardly move, among them all those of a.",
        "Gates of b differ over positions: what is said of how they move is of their mean over positions.",
    ]
    assert "hardly" not in " ".join(notes(found({"a": (LOSS, LOSS)}, moving=False, planes=("a",))))


def test_a_network_that_guesses():
    assert answer(found({"a": (LOSS, LOSS)}, top1=51.0)).startswith("Nothing can be said")
    assert not answer(found({"a": (LOSS, LOSS)}, top1=60.0)).startswith("Nothing can be said")


def test_the_notes():
    several = notes(found({"a": (LOSS, LOSS), "b": (LOSS, LOSS)}))
    assert several == [
        "With the gates of all blocks at once at their mean, top-1 changes by −7.00 ± 1.37 points; with all at 1, by "
        "−22.50 ± 2.09.",
        "Of 6 gates 0 hardly move; no block is constant.",
        "Accuracies are of 400 images drawn from 1\u202f400, 81.00 % right with gates intact; ± is one standard error. "
        "A loss is said to be seen beyond two standard deviations of what chance does to the images that changed "
        "(McNemar's test); of 6 comparisons 0.1 look like one by chance alone.",
    ]
    still = notes(found({"a": (LOSS, LOSS)}, moving=False))
    assert still[0] == "Of 3 gates 3 hardly move, among them all those of a."
