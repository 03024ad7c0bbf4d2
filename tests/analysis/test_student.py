from __future__ import annotations

import pytest

from senet.analysis.student import t_quantile

# The usual table of the t distribution, 97.5 %.
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 29: 2.045, 30: 2.042, 120: 1.980}


@pytest.mark.parametrize(("df", "t"), TABLE.items())
def test_the_table(df, t):
    assert t_quantile(0.975, df) == pytest.approx(t, abs=6e-4)


def test_other_levels():
    assert t_quantile(0.5, 3) == 0
    assert t_quantile(0.95, 2) == pytest.approx(2.920, abs=6e-4)
    assert t_quantile(0.995, 7) == pytest.approx(3.499, abs=6e-4)
