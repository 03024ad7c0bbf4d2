"""A forward as a graph: all that it asks of Python is noted, what no graph can stand for is refused, nothing stays."""

from __future__ import annotations

import builtins
import operator
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

import senet
from senet.surgery.graph.calls import Call
from senet.surgery.graph.guards import MISSING, Place, is_same, snapshot
from senet.surgery.graph.trace import Untraceable, trace
from tests.surgery.networks import Unit, residual

X = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
FLAG = 3
FLAGS = [3]
SHARED = torch.ones(8, 1, 1)


class Module(nn.Module):
    """A function as a forward, with attributes of all kinds to ask for."""

    def __init__(self, function=None):
        super().__init__()
        self.__dict__["function"] = function
        self.conv, self.norm, self.drop = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.Dropout(0.5)
        self.register_module("skip", None)
        self.inner = Inner()
        self.register_buffer("mean", torch.ones(8, 1, 1))
        self.register_buffer("absent", None)
        self.scale, self.factor = nn.Parameter(torch.ones(8, 1, 1)), torch.full((8, 1, 1), 2.0)
        self.rate, self.sizes, self.config, self.seen = 0.5, [1, 2], {"act": "relu"}, []
        self.rng, self.generator, self.stream = random.Random(0), torch.Generator(), iter([1.0, 2.0])

    def forward(self, x, **options):
        return Module.function_of(self)(self, x, **options)

    @staticmethod
    def function_of(module):
        return object.__getattribute__(module, "__dict__")["function"]


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.width, self.fc = 4, nn.Conv2d(8, 8, 1)

    def forward(self, x):
        return self.fc(x) * self.width


class OfGlobals(nn.Module):
    """A forward that reads globals, which are those of its own text."""

    def forward(self, x):
        return x * FLAG + len(FLAGS)


def call_of(*args, **kwargs):
    return Call.of(args, kwargs)[0]


def traced(function, *, training=False, **options):
    module = Module(function)
    graph, guards = trace(module, call_of(X), training=training, **options)
    return module, graph, guards


def agrees(module, graph, *inputs):
    with torch.no_grad():
        assert torch.equal(fx.Interpreter(module, graph=graph).run(*(t.clone() for t in inputs)), module(*inputs))


COMPUTED = {
    "attributes": lambda m, x: x * m.rate,
    "a missing attribute": lambda m, x: x * 2 if hasattr(m, "more") else x,
    "a part that is None": lambda m, x: x if m.skip is None else m.skip(x),
    "a buffer that is None": lambda m, x: x if m.absent is None else x + m.absent,
    "a buffer": lambda m, x: x + m.mean,
    "a parameter": lambda m, x: x * m.scale,
    "a plain tensor": lambda m, x: x * m.factor,
    "a list": lambda m, x: x * m.sizes[1],
    "a dictionary": lambda m, x: getattr(torch, m.config["act"])(x),
    "parts": lambda m, x: m.inner(m.norm(m.conv(x))),
    "training": lambda m, x: F.dropout(x, 0.0, m.training),
    "sizes": lambda m, x: x.view(x.size(0), x.shape[1], -1).mean(-1) + x.dim(),
    "a tensor of zeros by size": lambda m, x: x + torch.zeros(x.shape[0], 1, 1, 1),
    "a loop over parts": lambda m, x: sum(each(x) for each in (m.conv, m.conv)),
    "a mask by an argument's type": lambda m, x: x if isinstance(x, str) else x + 1,
}


@pytest.mark.parametrize("kind", COMPUTED)
def test_a_graph_computes_what_forward_does(kind):
    module, graph, _ = traced(COMPUTED[kind])
    graph.lint()
    agrees(module.eval(), graph, X)


def test_attributes_that_were_read_are_noted_and_no_others():
    _, _, guards = traced(lambda m, x: m.inner(x) * m.rate * m.sizes[0])
    assert guards.attributes["", "rate"] == 0.5
    assert guards.attributes["inner", "width"] == 4
    assert is_same([1, 2], guards.attributes["", "sizes"])
    assert set(guards.attributes) == {("", "rate"), ("", "sizes"), ("inner", "width")}


def test_missing_attributes_are_noted():
    _, _, guards = traced(lambda m, x: x * getattr(m, "more", 2) if not hasattr(m.inner, "other") else x)
    assert guards.attributes["", "more"] is MISSING
    assert guards.attributes["inner", "other"] is MISSING


def test_parts_are_noted_by_whether_they_are_there():
    _, _, guards = traced(lambda m, x: m.conv(x) + m.mean if m.skip is None and m.absent is None else x)
    assert guards.parts == {("", "skip"): False, ("", "absent"): False, ("", "conv"): True, ("", "mean"): True}


@pytest.mark.parametrize("training", [True, False])
def test_training_is_noted_as_traced(training):
    module, graph, guards = traced(lambda m, x: x * 2 if m.training else x * 3, training=training)
    assert guards.attributes["", "training"] is training
    agrees(module.train(training), graph, X)


def test_globals_are_noted():
    _, guards = trace(OfGlobals(), call_of(X), training=False)
    own = Place(("OfGlobals",), ("forward",), owner=OfGlobals)
    assert guards.outside == {
        Place((__name__, "FLAG")): 3,
        Place((__name__, "FLAGS")): snapshot(FLAGS),
        own: snapshot(OfGlobals.forward),
    }


def test_an_autocast_that_is_switched_off_is_noted():
    def careful(m, x):
        with torch.autocast("cpu", enabled=False):
            return m.conv(x)

    assert traced(careful)[2].no_autocast
    assert not traced(lambda m, x: m.conv(x))[2].no_autocast


def test_outputs_of_modules_that_left_no_node_are_named():
    _, graph, _ = traced(lambda m, x: m.inner(x))
    product = next(n for n in graph.nodes if n.op == "output").args[0]
    assert product.meta["output_of"] == ["inner"]
    assert any(n.meta.get("output_of") == ["inner.fc"] for n in graph.nodes)


def test_norms_convolutions_and_chosen_parts_stay_whole():
    module = Module(lambda m, x: m.inner(m.norm(m.conv(m.drop(x)))))
    graph, _ = trace(module, call_of(X), training=True, leaves=[module.inner])
    assert [n.target for n in graph.nodes if n.op == "call_module"] == ["drop", "conv", "norm", "inner"]


class Scaled(nn.Module):
    def forward(self, x):
        return x * 2


def test_small_modules_stay_whole_unless_they_are_opened():
    module = nn.Sequential(Scaled())
    for opened, ops in (((), ["call_module"]), ((module[0],), ["call_function"])):
        graph, _ = trace(module, call_of(X), training=False, opened=opened)
        assert [n.op for n in graph.nodes][1:-1] == ops


def test_placeholders_are_the_tensors_of_the_call():
    def function(m, x, *, skip=None, flags=(), scale=1):
        return x * scale + skip["a"] + (flags[0] if flags[1] else 0)

    module = Module(function)
    kwargs = {"skip": {"a": X + 1}, "flags": [X + 2, True], "scale": 3}
    graph, _ = trace(module, call_of(X, **kwargs), training=False)
    tensors = [n for n in graph.nodes if n.op == "placeholder"]
    assert len(tensors) == 3
    got = fx.Interpreter(module, graph=graph).run(X, X + 1, X + 2)
    assert torch.equal(got, module(X, **kwargs))


def writes(m, x):
    m.rate = 1.0
    return x


def counts(m, x):
    m.inner.width += 1
    return x


def keeps_in_a_list(m, x):
    m.seen.append(x)
    return x


def keeps_a_number(m, x):
    m.sizes.append(3)
    return x


def keeps_in_a_dictionary(m, x):
    m.config["last"] = 1
    return x


def adds_to_a_buffer(m, x):
    m.mean = m.mean + 1
    return x


def without_gradients(m, x):
    with torch.no_grad():
        s = x.mean((2, 3), keepdim=True)
    return x * s


def with_a_new_layer(m, x):
    return nn.Conv2d(8, 8, 1)(x)


REFUSED = {
    "branches on numbers": (lambda m, x: x if x.sum() > 0 else -x, "cannot be traced"),
    "loops over positions": (lambda m, x: sum(row for row in x), "cannot be traced"),
    "writes an attribute": (writes, "writes its attribute rate"),
    "counts in a part": (counts, "writes its attribute width"),
    "writes a buffer": (adds_to_a_buffer, "writes its attribute mean"),
    "keeps tensors in a list": (keeps_in_a_list, "changes seen"),
    "keeps numbers in a list": (keeps_a_number, "changes sizes"),
    "keeps numbers in a dictionary": (keeps_in_a_dictionary, "changes config"),
    "python's random numbers": (lambda m, x: x * random.random(), "draws random numbers"),
    "numpy's random numbers": (lambda m, x: x * float(np.random.rand()), "draws random numbers"),
    "numpy's normal numbers": (lambda m, x: x * float(np.random.randn()), "draws random numbers"),
    "torch's random numbers": (lambda m, x: x * torch.rand(()).item(), "draws random numbers"),
    "a generator of its own": (lambda m, x: x * m.rng.random(), "random numbers of its own"),
    "torch's generator": (lambda m, x: x * torch.rand((), generator=m.generator).item(), "random numbers of its own"),
    "an iterator": (lambda m, x: x * next(m.stream), "used up"),
    "gradients switched off": (without_gradients, "switches gradients"),
    "a tensor made from numbers": (lambda m, x: x + torch.tensor([1.0]), "tensor that it makes from numbers"),
    "a tensor made from parameters": (lambda m, x: x + SHARED, "tensor that it makes from numbers"),
    "a layer made on the way": (with_a_new_layer, "none of its parts|cannot be traced"),
}


def state():
    """Everything that tracing could leave behind."""
    return (
        (nn.Module.__getattribute__ is object.__getattribute__, "__getattribute__" in vars(nn.Module)),
        (nn.Module.__setattr__, nn.Module.__call__, nn.Module.__getattr__),
        [getattr(torch, name) for name in ("rand", "randn", "zeros", "ones", "empty", "full", "arange", "linspace")],
        (builtins.len, "len" in globals(), "len" in vars(F)),
        (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()),
        (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
    )


def inside(module):
    return (
        [(name, m.training) for name, m in module.named_modules()],
        {n: t.clone() for n, t in module.state_dict().items()}.keys(),
        (module.rate, list(module.sizes), dict(module.config), list(module.seen), module.inner.width),
    )


@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_graph_can_stand_for_is_refused_and_nothing_stays(kind):
    function, reason = REFUSED[kind]
    module = Module(function)
    module.norm.eval()
    before = state()
    modes = [m.training for m in module.modules()]
    with pytest.raises(Untraceable, match=reason):
        trace(module, call_of(X), training=True)
    assert state() == before
    assert [m.training for m in module.modules()] == modes
    assert not any(isinstance(each, fx.Proxy) for each in module.seen)


@pytest.mark.parametrize("kind", COMPUTED)
def test_nothing_stays_of_a_graph_that_was_made(kind):
    module = Module(COMPUTED[kind])
    module.inner.eval()
    before, its = state(), inside(module)
    trace(module, call_of(X), training=True)
    assert state() == before
    assert inside(module) == its


@pytest.mark.parametrize("enabled", [True, False])
def test_autocast_and_gradients_are_as_they_were(enabled):
    with torch.autocast("cpu", enabled=enabled), torch.set_grad_enabled(enabled):
        plain, careful = Module(lambda m, x: m.conv(x)), Module(without_gradients)
        before = state()
        trace(plain, call_of(X), training=False)
        if enabled:
            with pytest.raises(Untraceable):
                trace(careful, call_of(X), training=False)
        assert state() == before


def test_random_numbers_in_tensors_are_nodes():
    _, graph, _ = traced(lambda m, x: x + torch.rand(x.shape) + torch.rand_like(x))
    assert sum(n.target in (torch.rand, torch.rand_like) for n in graph.nodes) == 2


def test_a_forward_on_the_object_itself_is_refused():
    module = Scaled()
    module.forward = lambda x: x
    with pytest.raises(Untraceable, match="replaced on the object itself"):
        trace(module, call_of(X), training=False)


def test_a_block_of_ours_is_read_as_part_of_what_is_around_it():
    block = senet.SqueezeExcite(8, reduction=2)
    with pytest.raises(Untraceable, match="block of ours"):
        trace(block, call_of(X), training=False)
    graph, _ = trace(nn.Sequential(block), call_of(X), training=False)
    agrees(nn.Sequential(block).eval(), graph, X)


def test_a_fused_module_is_traced_as_it_runs():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 1), Unit(residual)).double().eval()
    images = torch.randn(2, 3, 8, 8).double()
    fused = senet.fuse(nn.Sequential(*plain), example=(images,))
    assert senet.report(fused).taken
    graph, _ = trace(fused, call_of(images), training=False)
    got = fx.Interpreter(fused, graph=graph).run(images)
    torch.testing.assert_close(got, fused(images), rtol=1e-12, atol=1e-12)


def test_a_part_in_a_mode_of_its_own_keeps_it_where_it_stays_whole():
    module = Module(lambda m, x: m.inner(x) * (2 if m.training else 3))
    module.train()
    module.inner.eval()
    trace(module, call_of(X), training=True, leaves=[module.inner])
    assert [module.training, module.inner.training, module.inner.fc.training] == [True, False, False]


def test_graphs_are_in_normal_form():
    _, graph, _ = traced(lambda m, x: torch.addcmul(sum([x, x]), x, m.mean))
    assert [n.target for n in graph.nodes if n.op == "call_function"] == [operator.add, operator.mul, operator.add]
