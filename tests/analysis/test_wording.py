from __future__ import annotations

import math

import pytest

from senet.analysis import wording
from senet.analysis.arms import Spread


def test_count():
    assert wording.count(75) == "75"
    assert wording.count(25_557_032) == "25\u202f557\u202f032"


def test_spread():
    assert wording.spread(Spread(3, 91.4, 0.9)) == "91.40 ± 0.90"
    assert wording.spread(Spread(1, 91.4, None)) == "91.40"
    assert wording.spread(None) == "–"


def test_loss_has_a_digit_more():
    assert wording.loss(Spread(3, 0.28414, 0.0119)) == "0.284 ± 0.012"
    assert wording.loss(Spread(1, 2.0, None)) == "2.000"
    assert wording.loss(None) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.21, "4.2 s"), (59.97, "1 min 00 s"), (185, "3 min 05 s"), (3599.7, "1 h 00 min"), (8040, "2 h 14 min")],
)
def test_duration(seconds, text):
    assert wording.duration(seconds) == text


def test_percent_and_signed():
    assert wording.percent(0.374) == "37 %"
    assert wording.percent(math.nan) == "–"
    assert (wording.signed(0.41), wording.signed(-0.41)) == ("+0.41", "−0.41")


def test_p_value():
    assert wording.p_value(0.0312) == "p = 0.031"
    assert wording.p_value(1) == "p = 1"
    assert wording.p_value(0.001) == "p = 0.001"
    assert wording.p_value(0.000999) == "p < 0.001"
