from __future__ import annotations

import pytest
import torch
from torch import nn

from senet.analysis.pruning import costs
from senet.analysis.pruning.costs import cost_of, savings_of
from senet.blocks import create_block
from senet.surgery.gating.freeze import frozen

X = torch.randn(3, 3, 10, 10)


def test_bytes_by_module():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(nn.ReLU(), nn.ReLU()))
    cost = cost_of(model, X)
    pass_over_the_map = 4 * 3 * 8 * 100
    assert cost.parameters == 32
    assert cost.bytes("1") == 4 * pass_over_the_map
    assert cost.bytes("1.0") == 2 * pass_over_the_map
    assert cost.bytes() == cost.bytes("0") + cost.bytes("1")


@pytest.fixture
def two_gates(monkeypatch):
    """A network, what it is without its gates, and what each `in_turn` is given to time."""
    model = nn.Sequential(nn.Conv2d(3, 8, 1), create_block("se", 8), nn.ReLU(), create_block("se", 8)).eval()
    called = []

    def in_turn(calls, **_):
        called.append({name: call() for name, call in calls.items()})
        return {"with": [3.0, 5.0, 4.0], "without": [1.0, 2.0, 9.0]}

    monkeypatch.setattr(costs, "in_turn", in_turn)
    without, gates = frozen(model, {"1": torch.full((8,), 0.5), "3": torch.full((8,), 0.25)})
    return model, without, gates, called


def test_savings(two_gates):
    model, without, gates, called = two_gates
    with torch.no_grad():
        savings = savings_of(model, without, gates, X)
    assert list(savings) == ["1", "3"]
    assert all(saving.seconds == 2.0 for saving in savings.values())
    assert savings["1"].parameters == sum(p.numel() for p in model[1].parameters())
    mine, its = cost_of(model, X), cost_of(without, X)
    assert sum(saving.bytes for saving in savings.values()) == mine.bytes() - its.bytes()
    # Timed is each module with its gate and what stands in its place, on the map that it really gets.
    first = model[0](X)
    assert torch.equal(called[0]["with"], model[1](first))
    assert torch.equal(called[0]["without"], first)
    assert torch.equal(called[1]["with"], model(X))


def test_no_hook_is_left(two_gates):
    model, without, gates, _ = two_gates
    with torch.no_grad():
        savings_of(model, without, gates, X)
    assert not any(module._forward_pre_hooks for module in model.modules())
