"""Published weights run again: here the package's own, in the place of those that a hub has."""

from dataclasses import replace
from decimal import Decimal

import pytest

from senet.errors import InputError
from senet.models.weights.pretrained import find_weight
from senet.published import figures
from senet.study import published_weights
from senet.study.published_weights import evaluate_published
from senet.train.evaluate import Evaluation


def test_weights_are_evaluated_beside_what_was_published(monkeypatch, tmp_path):
    (row,) = (f for f in figures(edition="tpami", table="4") if f.row == "SE-ResNet-110")
    known = replace(row, model="cifar_seresnet8")
    asked = []

    def evaluate(trained, data, *, progress):
        asked.append((trained.info["recipe"]["model"]["name"], data))
        return Evaluation(0.5, 90.0, None, [[90, 10], [10, 90]])

    monkeypatch.setattr(published_weights, "evaluate_run", evaluate)
    found = list(evaluate_published([known], tmp_path))
    assert asked == [("cifar_seresnet8", tmp_path)] * len(found)
    one = next(one for one in found if one.weight == "cifar_seresnet8.fashion_mnist")
    assert (one.row, one.published, one.measured, one.images) == ("SE-ResNet-110", Decimal("5.21"), 10.0, 200)
    assert one.stated == 100 - find_weight("cifar_seresnet8", "fashion_mnist").published[0].top1
    assert one.half_width == pytest.approx(1.96 * 100 * (0.1 * 0.9 / 200) ** 0.5)


def test_a_table_without_weights_is_refused(tmp_path):
    with pytest.raises(InputError, match="no pretrained weights are known"):
        list(evaluate_published(figures(edition="tpami", table="10"), tmp_path))


def test_rows_with_options_of_their_own_have_none(monkeypatch, tmp_path):
    monkeypatch.setattr(published_weights, "weights_of", lambda name: pytest.fail(f"asked for {name}"))
    rows = [figure for figure in figures(edition="tpami", table="13") if figure.options]
    with pytest.raises(InputError, match="no pretrained weights"):
        list(evaluate_published(rows, tmp_path))
