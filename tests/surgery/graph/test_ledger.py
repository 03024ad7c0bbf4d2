"""The account of gated maps: each once, taken or left with a reason, and none that a run made is forgotten."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from senet.surgery.graph.ledger import Ledger
from senet.surgery.graph.walk import Walk
from tests.surgery.networks import Unit, gated, images, randomised, residual

X = images((2, 9, 7))


def unread(m, x):
    return residual(m, x) if float(x.sum()) < 1e30 else x


def ledger(*units):
    walk = Walk(randomised(nn.Sequential(nn.Conv2d(3, 8, 1), *units)), (X,), modes=(False,))
    return Ledger("fused", walk)


def test_what_nobody_took_is_left_and_named():
    done = ledger(Unit(residual), nn.Sequential(Unit(residual))).closed()
    assert done.verb == "fused"
    assert done.taken == []
    assert sorted(done.left) == [("1", "no graph holds all of it"), ("2.0", "no graph holds all of it")]


def test_what_was_taken_is_not_left():
    account = ledger(Unit(residual), Unit(residual))
    account.leave(("1", 0), "1", "not yet")
    account.take(("1", 0), "1", "gate")
    done = account.closed()
    assert done.taken == [("1", "gate")]
    assert done.left == [("2", "no graph holds all of it")]


def test_two_products_of_one_module_are_two():
    account = ledger(Unit(lambda m, x: gated(m, m.conv(gated(m, m.normed(x))))))
    account.take(("1", 0), "1", "gate")
    done = account.closed()
    assert done.taken == [("1", "gate")]
    assert [path for path, _ in done.left] == ["1"]


def test_refusals_are_left_with_their_reason():
    done = ledger(Unit(lambda m, x: (lambda u: gated(m, u) + u)(m.normed(x)))).closed()
    assert done.left == [("1", "the gated map also goes to a sum")]


def test_a_final_reason_stays():
    account = ledger(Unit(residual))
    account.leave(("1", 0), "1", "first")
    account.leave(("1", 0), "1", "final", final=True)
    account.leave(("1", 0), "1", "later")
    assert account.closed().left == [("1", "final")]


def test_a_verb_may_have_no_use_for_a_gated_map():
    done = ledger(Unit(residual)).closed(lambda reading, site: f"not in {site.place}")
    assert done.left == [("1", "not in 1")]


def test_what_no_graph_shows_is_left_with_the_reason_of_the_nearest_module_around_it():
    account = ledger(nn.Sequential(Unit(unread)))
    done = account.closed()
    assert done.left == [("1.0", account.walk.untraceable[account.walk.model[1][0]])]
    assert done.left[0][1]


def test_the_model_itself_is_called_so():
    model = randomised(Unit(residual))
    walk = Walk(model, (torch.randn(2, 8, 9, 7, dtype=torch.float64),), modes=(False,))
    account = Ledger("fused", walk)
    account.take(("", 0), "", "gate")
    assert account.closed().taken == [("the model", "gate")]


@pytest.mark.parametrize("units", [1, 3])
def test_as_many_rows_as_products_were_seen(units):
    account = ledger(*(Unit(residual if i % 2 else unread) for i in range(units)))
    done = account.closed()
    assert len(done.taken) + len(done.left) == sum(account.walk.observed.gated.values()) == units
