from __future__ import annotations

import math
import statistics
from itertools import product

import pytest

from senet.analysis.paired import holm, pair, sign_flip_p

# W. S. Gosset, The probable error of a mean, Biometrika 6, 1908: hours of sleep gained with two drugs by ten patients.
FIRST = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
SECOND = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)


def paired(*points):
    return pair(dict(enumerate(points)), dict.fromkeys(range(len(points)), 0.0))


def test_students_own_data():
    found = pair(dict(enumerate(SECOND)), dict(enumerate(FIRST)))
    assert found.spread.mean == pytest.approx(1.58)
    assert found.p == pytest.approx(0.002833, abs=1e-6)
    assert (found.low, found.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)
    assert found.half_width == pytest.approx((2.4598858 - 0.7001142) / 2, abs=1e-6)
    # eight gains with a sum of 15.8, and a zero that is its own opposite: only all signs alike are as extreme
    assert found.exact_p == 4 / 2**10
    assert found.shown


def test_seeds_are_paired():
    found = pair({3: 1.0, 0: 2.0, 1: 5.0}, {1: 4.5, 3: 0.0, 9: 9.0})
    assert (found.seeds, found.points) == ((1, 3), (0.5, 1.0))


def test_shown_where_p_is_below_5_percent():
    for points in product((-0.2, 0.1, 0.5, 0.9), repeat=3):
        found = paired(*points)
        assert found.shown == (found.p is not None and found.p < 0.05), points


@pytest.mark.parametrize("points", [(0.5, 0.5), (0, 0, 0), (0.1 + 0.2, 0.3, 0.3)])  # the last equal but for rounding
def test_no_spread(points):
    found = paired(*points)
    assert (found.low, found.high, found.half_width, found.p) == (None,) * 4
    assert found.exact_p == (2 / 2 ** len(points) if any(points) else 1)
    assert not found.shown


def test_a_small_spread_is_one():
    assert paired(0.50001, 0.5, 0.5).shown


def test_too_few_seeds():
    for found in (paired(), paired(0.5)):
        assert (found.low, found.high, found.half_width, found.p, found.exact_p) == (None,) * 5
        assert not found.shown
    assert paired().spread is None
    assert paired(0.5).spread.mean == 0.5


def test_sign_flips():
    assert sign_flip_p([0.3, 0.1, 0.2, 0.4, 0.1]) == 2 / 2**5
    # of 8 sums with magnitude: 6, 4, 2, 0, 0, 2, 4, 6
    assert sign_flip_p([1, 2, -3]) == 1
    assert sign_flip_p([-1, 2, 3]) == 4 / 8
    assert sign_flip_p([0.1, 0.2, -0.3]) == 1  # whose sum is 5.6e-17 in floating point
    assert sign_flip_p([1.0] * 12) == 2 / 2**12
    assert sign_flip_p([1.0] * 13) is None


def test_sign_flips_of_no_effect_are_uniform():
    """Over all choices of signs of the same sizes, a share of at most p has a p value of at most p."""
    sizes = (0.11, 0.23, 0.48, 0.97, 1.9)
    ps = [sign_flip_p([s * x for s, x in zip(signs, sizes, strict=True)]) for signs in product((1, -1), repeat=5)]
    for p in set(ps):
        assert statistics.fmean(found <= p for found in ps) == p
    assert min(ps) == 0.0625


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.6, 0.9]) == (1, 1)
    assert holm([]) == ()
    assert math.isclose(holm([0.04])[0], 0.04)
