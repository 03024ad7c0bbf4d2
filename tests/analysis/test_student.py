from __future__ import annotations

import math

import pytest

from senet.analysis.student import t_quantile, two_sided_p

# The usual table of the t distribution, 97.5 %.
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 29: 2.045, 30: 2.042, 120: 1.980}


@pytest.mark.parametrize(("df", "t"), TABLE.items())
def test_the_table(df, t):
    assert t_quantile(0.975, df) == pytest.approx(t, abs=6e-4)


def test_other_levels():
    assert t_quantile(0.5, 3) == 0
    assert t_quantile(0.95, 2) == pytest.approx(2.920, abs=6e-4)
    assert t_quantile(0.995, 7) == pytest.approx(3.499, abs=6e-4)


@pytest.mark.parametrize("df", [1, 2, 3, 4, 9, 120])
def test_p_undoes_the_quantile(df):
    assert two_sided_p(t_quantile(0.975, df), df) == pytest.approx(0.05, abs=1e-11)
    assert two_sided_p(-t_quantile(0.6, df), df) == pytest.approx(0.8, abs=1e-11)


def test_p_of_one_and_two_degrees_is_elementary():
    for t in (0.0, 0.3, 2.0, 40.0):
        assert two_sided_p(t, 1) == pytest.approx(1 - 2 / math.pi * math.atan(t), abs=1e-14)
        assert two_sided_p(t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), abs=1e-14)
    assert two_sided_p(math.inf, 4) == pytest.approx(0, abs=1e-15)
