"""One walk over a model: modules of one kind, parts that are no graphs, and what is kept of those that were read."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import fx, nn

import senet
from senet.surgery.folding import norms
from senet.surgery.graph import run
from senet.surgery.graph.calls import Call
from senet.surgery.graph.guards import Guards
from senet.surgery.graph.modules import replace
from senet.surgery.graph.walk import Reading, TraceCache, Walk
from senet.surgery.report import Report
from tests.surgery.networks import Unit, gated, network, randomised, residual

X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def walk(model, *example, modes=(True, False), **options):
    return Walk(model, example or (X,), modes=modes, **options)


def two(change=lambda unit: None, **options):
    """A model of two units of one kind, the second of which is changed."""
    model = randomised(nn.Sequential(nn.Conv2d(3, 8, 1), Unit(residual, **options), Unit(residual, **options)))
    change(model[2])
    return model


def shared(unit):
    unit.gate.fc2.bias = unit.bn.bias


def swapped(unit):
    unit.gate.fc1, unit.gate.fc2 = nn.Linear(8, 4).double(), nn.Linear(4, 8).double()
    unit.gate.fc3 = unit.gate.fc1


DIFFERENT = {
    "a setting": lambda unit: setattr(unit, "rate", 1),
    "a setting of a part": lambda unit: setattr(unit.bn, "eps", 1e-3),
    "a stride": lambda unit: setattr(unit.conv, "stride", (2, 2)),
    "the forward": lambda unit: setattr(unit, "function", lambda m, x: gated(m, m.normed(x))),
    "a mode": lambda unit: unit.bn.eval(),
    "a hook": lambda unit: unit.gate.register_forward_hook(lambda *_: None),
    "a class": lambda unit: setattr(unit, "gate", type("Other", (type(unit.gate),), {})().double()),
    "a width": lambda unit: (
        setattr(unit.gate, "fc1", nn.Linear(8, 2).double()),
        setattr(unit.gate, "fc2", nn.Linear(2, 8).double()),
    ),
    "a bias": lambda unit: setattr(unit.gate, "fc2", nn.Linear(4, 8, bias=False).double()),
    "a frozen parameter": lambda unit: unit.conv.weight.requires_grad_(False),
    "shared parameters": shared,
    "a shared part": swapped,
    "another part": lambda unit: unit.add_module("more", nn.ReLU()),
    "a part that is None": lambda unit: unit.register_module("more", None),
    "a buffer": lambda unit: unit.register_buffer("more", torch.zeros(1)),
    "dtype of a buffer": lambda unit: setattr(unit.bn, "running_mean", unit.bn.running_mean.float()),
}


def test_modules_that_are_alike_are_of_one_kind():
    walked = walk(two())
    first, second = walked.model[1], walked.model[2]
    assert walked.kind(first) == walked.kind(second)
    assert hash(walked.kind(first)) == hash(walked.kind(second))
    assert walked.kind(first) != walked.kind(walked.model[0])


@pytest.mark.parametrize("what", DIFFERENT)
def test_modules_that_differ_in_anything_that_is_read_are_not(what):
    walked = walk(two())
    first, second = walked.model[1], walked.model[2]
    DIFFERENT[what](second)
    assert walked.kind(first) != walked.kind(second)


def test_modules_that_are_called_with_other_shapes_are_not_of_one_kind():
    model = randomised(nn.Sequential(nn.Conv2d(3, 8, 1), Unit(residual), nn.MaxPool2d(2), Unit(residual)))
    walked = walk(model)
    assert walked.kind(model[1]) != walked.kind(model[3])


def test_weights_make_no_other_kind():
    walked = walk(two())
    with torch.no_grad():
        walked.model[2].conv.weight.zero_()
    walked.model[2].conv.weight.grad = torch.zeros(8, 8, 3, 3).double()
    assert walked.kind(walked.model[1]) == walked.kind(walked.model[2])


def test_rewritten_modules_of_one_kind_share_what_was_written():
    model = two()
    before = walk(model).kind(model[1])
    senet.fuse(model, example=(X.double(),))
    walked = walk(model)
    assert walked.kind(model[1]) == walked.kind(model[2]) != before


def test_hosts_are_inner_ones_first_and_hold_gated_maps():
    model = randomised(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(Unit(residual)), Unit(lambda m, x: m.conv(x))))
    walked = walk(model)
    assert list(walked.hosts()) == [model[1][0], model[1], model]
    every = list(walked.hosts(all_of_them=True))
    assert every.index(model[1][0].conv) < every.index(model[1][0]) < every.index(model[1]) < every.index(model)
    assert model[2] in every
    assert model[2].bn not in every  # nobody calls it


def test_what_was_rewritten_is_no_host_and_stays_whole():
    model = randomised(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(Unit(residual)), Unit(residual)))
    walked = walk(model)
    whole, unit = walked.read(model), walked.read(model[2])
    walked.mark(model[1][0])
    assert list(walked.hosts()) == [model[2], model]
    assert walked.is_done(model[1][0].gate)
    assert not walked.is_done(model[1])
    assert walked.read(model[2]) is unit
    again = walked.read(model)
    assert again is not whole
    assert "1.0" in {n.target for n in again[0].graph.nodes}


def test_a_module_that_is_forgotten_is_read_anew():
    walked = walk(randomised(network()))
    unit = walked.model[1]
    first = walked.read(unit)
    assert walked.read(unit) is first
    walked.forget(unit)
    assert walked.read(unit) is not first


def test_modes_with_one_graph_are_read_once():
    model = randomised(network())
    (reading,) = walk(model).read(model[1])
    assert set(reading.modes) == {True, False}
    assert len(reading.guards()) == 1


def test_modes_with_two_graphs_are_read_twice_and_each_holds_in_its_mode():
    model = randomised(network(lambda m, x: gated(m, m.normed(x)) * (2 if m.training else 3)))
    readings = walk(model).read(model[1])
    assert [list(r.modes) for r in readings] == [[True], [False]]
    for reading in readings:
        ((mode, guards),) = reading.modes.items()
        assert guards.attributes["", "training"] is mode


def test_a_later_mode_that_is_no_graph_is_passed_over_and_the_first_must_be_one():
    def coin(m, x):
        return gated(m, m.normed(x)) * (1.0 if m.training else float(x.sum()))

    model = randomised(network(coin))
    (reading,) = walk(model, modes=(True, False)).read(model[1])
    assert list(reading.modes) == [True]
    other = walk(model, modes=(False, True))
    assert other.read(model[1]) == []
    assert "number of Python" in other.untraceable[model[1]]


class Loop(nn.Module):
    """A part whose forward is no graph."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return self.fc(x) if float(x.sum()) < 1e9 else x


def test_parts_that_are_no_graphs_stay_whole_in_those_around_them():
    model = randomised(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(Loop(), Unit(residual))))
    walked = walk(model)
    (reading,) = walked.read(model[1])
    assert next(n.target for n in reading.graph.nodes if n.op == "call_module") == "0"
    assert not any(str(n.target).startswith("0.") for n in reading.graph.nodes)
    assert walked.read(model[1][0]) == []
    assert "number of Python" in walked.untraceable[model[1][0]]
    assert walked.graphs(model[1][0]) == []


def test_a_module_that_takes_objects_is_no_graph():
    class Taker(nn.Module):
        def forward(self, x, _thing):
            return x

    class Giver(Unit):
        def __init__(self):
            super().__init__(residual)
            self.taker = Taker()

        def forward(self, x):
            return residual(self, self.taker(x, object()))

    model = randomised(nn.Sequential(nn.Conv2d(3, 8, 1), Giver()))
    walked = walk(model)
    assert walked.read(model[1].taker) == []
    assert walked.untraceable[model[1].taker] == walked.observed.opaque[walked.twins[model[1].taker]]


def test_each_way_to_call_a_module_is_read():
    class Optional(Unit):
        def forward(self, x, skip=None):
            return gated(self, self.normed(x)) + (0 if skip is None else skip)

    class Caller(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.unit = nn.Conv2d(3, 8, 1), Optional()

        def forward(self, x):
            x = self.conv(x)
            return self.unit(x, skip=self.unit(x))

    model = randomised(Caller())
    readings = walk(model).read(model.unit)
    assert [len(r.inputs) for r in readings] == [1, 2]
    assert [sorted(r.call.kwargs) for r in readings] == [[], ["skip"]]


def test_values_are_those_of_the_modules_own_forward():
    model = randomised(network())
    walked = walk(model)
    for module in walked.hosts():
        for reading in walked.read(module):
            output = next(n for n in reading.graph.nodes if n.op == "output")
            with torch.no_grad():
                wanted = reading.twin.eval()(*(t.clone() for t in reading.inputs))
            torch.testing.assert_close(reading.values[output], wanted, rtol=1e-12, atol=1e-12)


def test_graphs_that_nobody_wants_are_not_run():
    model = randomised(network())
    assert walk(model).read(model[1], lambda graph: False) == []


def test_places_and_called_parts_are_named_in_the_model():
    model = randomised(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Sequential(Unit(residual))))
    walked = walk(model)
    (reading,) = walked.read(model[1])
    product = next(n for n in reading.graph.nodes if n.op == "call_function" and n.target.__name__ == "mul")
    assert reading.place(product) == "1.0"
    norm = next(n for n in reading.graph.nodes if n.target == "0.bn")
    assert reading.called(norm) is walked.twins[model[1][0].bn]
    assert reading.place(norm) == "1.0"
    assert reading.called(product) is None


def test_graphs_may_be_prepared():
    seen = []
    model = randomised(network())
    walked = walk(model, prepare=lambda twin, graph, observed: seen.append((twin, observed)))
    walked.read(model[1])
    assert {twin for twin, _ in seen} == {walked.twins[model[1]]}
    assert all(observed is walked.observed for _, observed in seen)


def test_the_model_is_not_touched():
    model = randomised(network()).train()
    before = copy.deepcopy(model.state_dict())
    walked = walk(model)
    for module in walked.hosts():
        walked.read(module)
        walked.kind(module)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert all(m.training for m in model.modules())
    assert not any(t is other for t in model.parameters() for other in walked.twin.parameters())


# One copy for all graphs.


def test_all_graphs_share_one_twin():
    model = network().float()
    walked = walk(model)
    (whole,), (inner,) = walked.read(model), walked.read(model[1])
    assert whole.twin is walked.twin
    assert whole.twin[1] is inner.twin
    assert {p.dtype for p in whole.twin.parameters()} == {torch.float64}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_what_is_replaced_by_folding_is_replaced_in_the_twin():
    model = randomised(network()).eval()
    walked = walk(model, modes=(False,))
    norms.fold_norms(walked, Report("folded"))
    assert type(model[1].bn) is type(walked.twin[1].bn) is nn.Identity
    (reading,) = walked.read(model)
    output = next(n for n in reading.graph.nodes if n.op == "output")
    with torch.no_grad():
        torch.testing.assert_close(reading.values[output], walked.twin(*reading.inputs))


def test_a_shared_module_is_replaced_in_every_place_of_the_twin():
    unit = Unit(residual)
    model = randomised(nn.Sequential(nn.Conv2d(3, 8, 1), unit, nn.ReLU(), unit)).eval()
    walked = walk(model, modes=(False,))
    new = nn.Conv2d(8, 8, 1).double()
    replace(walked.twin, {walked.twins[unit]: new})
    assert walked.twin[1] is walked.twin[3] is new
    assert walked.paths[unit] == "1"


@pytest.mark.parametrize("verb", ["fuse", "fold"])
def test_a_network_is_copied_once_for_all_its_graphs(monkeypatch, verb):
    copied = []

    def deepcopy(module, *memo):
        copied.append(module)
        return copy.deepcopy(module, *memo)

    model = randomised(nn.Sequential(nn.Conv2d(3, 8, 1), *(Unit(residual) for _ in range(3)))).eval()
    monkeypatch.setattr(run, "copy", SimpleNamespace(deepcopy=deepcopy))
    done = senet.report(getattr(senet, verb)(model, example=(X.double(),)))
    assert sum("gate" in what or "product" in what for _, what in done.taken) == 3
    # The copy that is folded, and the twin; none of a unit, as it names no dtype to be looked at.
    assert [type(module) for module in copied] == [nn.Sequential] * {"fuse": 1, "fold": 2}[verb]


# What is kept of modules that were read.


def kept(megabytes):
    graph = fx.Graph()
    values = {graph.placeholder("x"): (torch.empty(megabytes * 2**18), 3)}
    return [reading(graph, values)]


def reading(graph, values):
    module = nn.Identity()
    return Reading(module, module, "", Call.of((), {})[0], [], {False: Guards()}, graph, [], values)


def test_the_oldest_values_go_first_and_the_latest_stay(monkeypatch):
    monkeypatch.setattr(TraceCache, "limit", 5 * 2**20)
    first, nothing, second, third = (nn.Identity() for _ in range(4))
    cache = TraceCache()
    cache[first] = kept(2)
    cache[nothing] = []
    cache[second] = kept(3)
    assert list(cache) == [first, nothing, second]
    cache[third] = kept(2)
    assert second in cache
    assert third in cache
    assert first not in cache
    cache[first] = kept(9)
    assert first in cache
    assert second not in cache
    assert third not in cache


@pytest.mark.parametrize(("limit", "stays"), [(34, True), (33, False)])
def test_bytes_are_those_of_all_values(monkeypatch, limit, stays):
    monkeypatch.setattr(TraceCache, "limit", limit)
    graph = fx.Graph()
    a, b = graph.placeholder("a"), graph.placeholder("b")
    values = {a: torch.zeros(3, dtype=torch.float64), b: [torch.zeros(5, dtype=torch.float16), None, 1]}
    cache, first = TraceCache(), nn.Identity()
    cache[first] = [reading(graph, values)]
    cache[nn.Identity()] = []
    assert (first in cache) == stays


@pytest.mark.parametrize("verb", ["fuse", "fold"])
def test_without_room_the_same_is_found(monkeypatch, verb):
    def found():
        model = two().eval()
        model.append(Unit(lambda m, x: gated(m, m.normed(x)) + gated(m, x)).double())
        done = senet.report(getattr(senet, verb)(model, example=(X.double(),)))
        return done.taken, done.left

    with_room = found()
    monkeypatch.setattr(TraceCache, "limit", 0)
    assert found() == with_room
    assert len(with_room[0]) >= 3
