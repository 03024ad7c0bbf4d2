"""The modules of a model as graphs: one copy in float64 for all, which follows what is replaced."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import timm
import torch
from torch import nn

import senet
from senet.surgery.folding.hosts import Hosts


class Unit(nn.Module):
    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(4, 4, 3, padding=1), gate

    def forward(self, x):
        u = self.conv(x)
        return x + u * self.gate(u.mean((2, 3), keepdim=True))


@pytest.fixture
def gate():
    return nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sigmoid())


@pytest.fixture
def hosts(gate):
    return Hosts(nn.Sequential(nn.Conv2d(3, 4, 1), Unit(gate), nn.Sequential(Unit(gate))).eval(), None)


def test_all_graphs_share_one_copy(hosts):
    whole = hosts.traced(hosts.model)
    inner = hosts.traced(hosts.model[2][0])
    assert whole.double[2][0] is inner.double
    assert whole.double[1].gate is inner.double.gate
    assert {p.dtype for p in whole.double.parameters()} == {torch.float64}
    assert {p.dtype for p in hosts.model.parameters()} == {torch.float32}


@pytest.mark.parametrize("before", [True, False], ids=["traced before", "traced after"])
def test_what_is_replaced_is_replaced_in_the_copy(hosts, before):
    unit = hosts.model[1]
    if before:
        assert hosts.traced(unit) is not None
        assert hosts.traced(hosts.model) is not None
    new = nn.Conv2d(4, 4, 1).eval()
    hosts.replace(unit, new, copy.deepcopy(new).double())
    whole = hosts.traced(hosts.model)
    assert hosts.model[1] is new
    torch.testing.assert_close(whole.double[1].weight, new.weight.double())
    output = next(n for n in whole.graph.nodes if n.op == "output")
    with torch.no_grad():
        torch.testing.assert_close(whole.values[output], whole.double(*whole.inputs))


def test_the_model_itself_can_be_replaced(hosts):
    assert hosts.traced(hosts.model) is not None
    new = copy.deepcopy(hosts.model)
    hosts.replace(hosts.model, new, copy.deepcopy(new).double())
    assert hosts.model is new
    assert list(hosts.modules()) == []


def test_a_shared_module_is_replaced_in_every_place(gate):
    unit = Unit(gate)
    hosts = Hosts(nn.Sequential(nn.Conv2d(3, 4, 1), unit, nn.ReLU(), unit).eval(), None)
    assert hosts.traced(unit) is not None
    new = nn.Conv2d(4, 4, 1).eval()
    hosts.replace(unit, new, copy.deepcopy(new).double())
    assert hosts.model[1] is hosts.model[3] is new
    assert hosts.traced(hosts.model) is None  # nothing is gated any more


@pytest.mark.parametrize("name", ["seresnet18", "regnety_002"])
def test_folding_copies_a_network_once_for_all_its_graphs(monkeypatch, name):
    copied: list[nn.Module] = []

    def deepcopy(module):
        copied.append(module)
        return copy.deepcopy(module)

    model = timm.create_model(name).eval()
    monkeypatch.setattr("senet.surgery.trace.copy", SimpleNamespace(deepcopy=deepcopy))
    assert len(senet.report(senet.fold(model)).taken) > 8
    assert len(copied) == 1
