from __future__ import annotations

import pytest

from senet.errors import InputError, did_you_mean, with_article


def test_is_a_value_error():
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize(
    ("given", "known", "said"),
    [
        ("seresnet5", ["seresnet50", "vgg16"], "; did you mean 'seresnet50'?"),
        ("block1", ["xyz", "block", "block12"], "; did you mean 'block12' or 'block'?"),
        ("nothing", ["b", "a", "a"], "; known: a, b"),
        ("nothing", [], ""),
        ("zzz", [f"name{i:02}" for i in range(13)], "; 13 are known, for example name00, name01, name02"),
    ],
)
def test_nearest_names(given, known, said):
    assert did_you_mean(given, known) == said


def test_how_many_names_are_offered():
    known = ["block1", "block2", "block3", "block4"]
    assert did_you_mean("block", known, most=1).count("'") == 2
    assert did_you_mean("block", known).count("'") == 6


@pytest.mark.parametrize(
    "given", ["a list", "an object", "an int", "a str", "an OrderedDict", "a UserDict", "an ndarray"]
)
def test_articles(given):
    assert with_article(given.partition(" ")[2]) == given
