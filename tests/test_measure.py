import pytest
import torch

from senet.measure import Ratio, device_name, in_turn, ratio


def test_ratio_is_that_of_pairs_however_they_drift():
    theirs = [1.0, 2.0, 4.0, 8.0, 16.0]
    found = ratio([1.5 * t for t in theirs], theirs)
    assert found == Ratio(1.5, 1.5, 1.5)


def test_one_disturbance_does_not_move_the_median_but_widens_the_interval():
    quiet = ratio([1.0, 1.1, 0.9, 1.0, 1.0], [1.0] * 5)
    assert quiet.median == 1.0
    assert quiet.low < 1.0 <= quiet.high <= 1.1
    assert ratio([1.0, 9.0, 1.0], [1.0] * 3).median == 1.0


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Ratio(1, 0.9, 1.02), "within 3 %"),
        (Ratio(1.1, 1.05, 1.2), "above 3 %"),
        (Ratio(1, 0.9, 1.2), "too noisy to tell"),
    ],
)
def test_verdict(found, said):
    assert found.verdict(0.03) == said


def test_calls_take_turns():
    order = []
    times = in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=4, warmup=2)
    assert "".join(order) == "ba" + "ab" + "ba" + "ab" + "ba" + "ab"
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 4, "b": 4}
    assert min(map(min, times.values())) >= 0


def test_device_name():
    assert "CPU" in device_name(torch.device("cpu"))
