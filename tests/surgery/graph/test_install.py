"""Another forward for a module: it runs while all is as it was, else the module's own, and nothing else changes."""

from __future__ import annotations

import copy
import pickle
import types

import pytest
import torch
from torch import fx, nn

from senet.errors import InputError
from senet.surgery.graph.calls import Call
from senet.surgery.graph.install import Rewritten, give_back, put_in, put_same_in
from senet.surgery.graph.trace import trace
from senet.surgery.graph.written import Variant

X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
FACTOR = 2


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.bias = nn.Linear(4, 4), 1.0

    def forward(self, z):
        return self.fc(z) + self.bias


class Block(nn.Module):
    """A forward that asks for all kinds of things, and goes around its gate and its dropout."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.gate, self.drop = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), Gate(), nn.Dropout(0.0)
        self.rate, self.flag, self.sizes, self.config = 0.5, True, [1, 2], types.SimpleNamespace(scale=2)
        self.register_module("skip", None)
        self.register_buffer("shift", torch.ones(4, 1, 1))

    def forward(self, x, skip=None):
        y = self.drop(self.norm(self.conv(x))) * self.rate * self.config.scale * FACTOR
        y = y if self.flag and not hasattr(self, "more") else -y
        y = y * self.sizes[0] + self.gate(x.mean((2, 3)))[:, :, None, None]
        y = y if self.skip is None else y + self.skip(x)
        return y + self.shift if skip is None else y + skip


def variant(module, *args, training=False, change=100.0, **kwargs):
    """The module's own forward with a constant added, so that it is told which of the two ran."""
    graph, guards = trace(module, Call.of(args, kwargs)[0], training=training)
    output = next(n for n in graph.nodes if n.op == "output")
    with graph.inserting_before(output):
        output.args = (graph.call_function(torch.add, (output.args[0], change)),)
    return Variant(Call.of(args, kwargs)[0], guards, graph)


def rewritten(module=None, *args, **options):
    module = (module or Block()).eval()
    put_in(module, [variant(module, *(args or (X,)))], **options)
    return module


def runs(module, *args, by=100.0, **kwargs):
    """Whether the rewritten forward runs; the module computes what it is to either way."""
    args = args or (() if kwargs else (X,))
    kind = type(module)
    with torch.no_grad():
        got = module(*args, **kwargs)
        module.__class__ = kind.original
        try:
            plain = module(*args, **kwargs)
        finally:
            module.__class__ = kind
    difference = (got - plain).mean().round()
    assert difference in (0, by)
    torch.testing.assert_close(got - difference, plain, rtol=1e-4, atol=1e-4)
    return bool(difference)


def test_the_rewritten_forward_runs_in_the_same_object():
    module = Block()
    state, parts, names = module.state_dict(), list(module.modules()), dict(vars(module))
    rewritten(module)
    assert runs(module)
    assert isinstance(module, Block)
    assert isinstance(module, Rewritten)
    assert type(module).__name__ == "Block"
    assert list(module.modules()) == parts
    assert vars(module).keys() == names.keys()
    assert all(torch.equal(t, state[name]) for name, t in module.state_dict().items())
    give_back(module)
    assert type(module) is Block


CHANGES = {
    "number": (lambda m: setattr(m, "rate", 0.25), lambda m: setattr(m, "rate", 0.5)),
    "flag": (lambda m: setattr(m, "flag", False), lambda m: setattr(m, "flag", True)),
    "flag as a number": (lambda m: setattr(m, "flag", 1), lambda m: setattr(m, "flag", True)),
    "list": (lambda m: m.sizes.__setitem__(0, 3), lambda m: m.sizes.__setitem__(0, 1)),
    "config": (lambda m: setattr(m.config, "scale", 3), lambda m: setattr(m.config, "scale", 2)),
    "attribute that was missing": (lambda m: setattr(m, "more", 1), lambda m: delattr(m, "more")),
    "part that was None": (lambda m: setattr(m, "skip", nn.Identity()), lambda m: setattr(m, "skip", None)),
    "number of a part": (lambda m: setattr(m.gate, "bias", 2.0), lambda m: setattr(m.gate, "bias", 1.0)),
    "forward of a part": (
        lambda m: setattr(m.gate, "forward", lambda z: z),
        lambda m: delattr(m.gate, "forward"),
    ),
    "class of a part": (
        lambda m: setattr(m.gate, "__class__", type("Other", (Gate,), {"forward": lambda self, z: z})),
        lambda m: setattr(m.gate, "__class__", Gate),
    ),
    "part of a part": (lambda m: m.gate.add_module("more", nn.ReLU()), lambda m: m.gate.__delattr__("more")),
    "part": (lambda m: m.add_module("extra", nn.ReLU()), lambda m: m.__delattr__("extra")),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_brings_the_original_forward_back_until_it_is_undone(kind):
    change, undo = CHANGES[kind]
    module = rewritten()
    assert runs(module)
    change(module)
    assert not runs(module)
    undo(module)
    assert runs(module)


@pytest.mark.parametrize(
    "register",
    [
        lambda m: m.register_forward_hook(lambda *_: None),
        lambda m: m.register_forward_pre_hook(lambda *_: None),
        lambda m: m.register_full_backward_hook(lambda *_: None),
        lambda m: m.register_full_backward_pre_hook(lambda *_: None),
    ],
)
def test_hooks_on_a_part_that_is_gone_around_bring_the_original_back(register):
    module = rewritten()
    hook = register(module.gate)
    assert not runs(module)
    hook.remove()
    assert runs(module)
    hook = module.conv.register_forward_hook(lambda *_: None)  # which the graph calls
    assert runs(module)
    hook.remove()


def test_the_mode_is_asked_where_forward_asks_for_it():
    class Switch(nn.Module):
        def forward(self, x):
            return x * 2 if self.training else x * 3

    module = rewritten(Switch())
    assert runs(module)
    module.train()
    assert not runs(module)
    module.eval()
    assert runs(module)


def test_globals_that_forward_reads_are_asked_for(monkeypatch):
    module = rewritten()
    monkeypatch.setitem(globals(), "FACTOR", 3)
    assert not runs(module)
    monkeypatch.undo()
    assert runs(module)


def test_other_calls_run_the_original():
    module = rewritten()
    assert runs(module, X[:1, :, :3])
    assert not runs(module, X, X)
    assert not runs(module, X, skip=X)
    assert not runs(module, x=X)
    assert module(X[:0]).shape == (0, 4, 6, 6)


def test_each_call_runs_the_forward_that_was_written_for_it():
    module = Block().eval()
    put_in(module, [variant(module, X), variant(module, X, X, change=200.0), variant(module, X, skip=X, change=300.0)])
    assert runs(module, X)
    assert runs(module, X, X, by=200.0)
    assert runs(module, X, skip=X, by=300.0)


def test_square_maps_alone_where_it_holds_for_those():
    module = Block().eval()
    each = variant(module, X)
    each.guards.square = True
    put_in(module, [each])
    assert runs(module)
    assert not runs(module, X[..., :5])
    assert runs(module, X[..., :5, :5])


def test_no_autocast_where_forward_switches_it_off():
    module = Block().eval()
    each = variant(module, X)
    each.guards.no_autocast = True
    put_in(module, [each])
    assert runs(module)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        difference = module(X) - type(module).original.forward(module, X)
    assert not difference.any()
    assert runs(module)


def test_an_error_is_raised_where_the_original_may_not_run():
    module = rewritten(otherwise="call it as it was")
    assert module(X).mean() > 50
    with pytest.raises(InputError, match=r"^call it as it was$"):
        module(X, X)


def test_a_module_of_the_same_kind_gets_the_same_forward():
    first, second = rewritten(), Block().eval()
    put_same_in(second, first)
    assert type(second) is type(first)
    assert runs(second)


@pytest.mark.parametrize("plain", [True, False])
def test_copies_run_the_rewritten_forward_with_weights_of_their_own(plain):
    module = rewritten(plain=plain)
    twin = copy.deepcopy(module)
    assert runs(twin)
    assert type(module) is type(twin)
    assert twin.conv is not module.conv
    twin.rate = 1.0
    assert not runs(twin)
    assert runs(module)


def test_copies_are_made_as_the_class_makes_them():
    class Counted(Block):
        copies = 0

        def __deepcopy__(self, memo):
            assert type(self) is Counted
            Counted.copies += 1
            twin = Counted().eval()
            twin.load_state_dict(self.state_dict())
            return twin

    module = rewritten(Counted())
    twin = copy.deepcopy(module)
    assert Counted.copies == 1
    assert runs(twin)
    assert runs(module)


def test_a_pickle_of_plain_forwards_holds_them():
    module = rewritten(plain=True)
    twin = pickle.loads(pickle.dumps(module))
    assert isinstance(twin, Rewritten)
    assert runs(twin)
    assert torch.equal(twin(X), module(X))
    twin.config.scale = 3
    assert not runs(twin)
    twin.config.scale = 2
    assert runs(pickle.loads(pickle.dumps(twin)))


def test_a_pickle_of_others_holds_a_module_of_the_original_class():
    module = rewritten()
    twin = pickle.loads(pickle.dumps(module))
    assert type(twin) is Block
    assert torch.allclose(twin(X) + 100, module(X))


def test_the_error_is_stored_too():
    twin = pickle.loads(pickle.dumps(rewritten(plain=True, otherwise="call it as it was")))
    with pytest.raises(InputError, match=r"^call it as it was$"):
        twin(X, X)


def test_a_graph_module_can_be_recompiled():
    module = fx.symbolic_trace(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())).eval()
    put_in(module, [variant(module, X)])
    assert runs(module)
    module.recompile()
    assert runs(module)
    kind = type(module)
    node = next(n for n in module.graph.nodes if n.op == "output")
    with module.graph.inserting_before(node):
        node.args = (module.graph.call_function(torch.mul, (node.args[0], 2.0)),)
    module.recompile()
    assert type(module) is kind
    give_back(module)
    assert torch.equal(module(X), module.get_submodule("0")(X).relu() * 2)


def test_parts_that_are_graph_modules_are_told_apart_by_their_code():
    module = nn.Sequential(fx.symbolic_trace(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()))).eval()
    put_in(module, [variant(module, X)])
    assert runs(module)
    part = module[0]
    node = next(n for n in part.graph.nodes if n.op == "output")
    node.args = (node.args[0].args[0],)
    part.recompile()
    assert not runs(module)


@pytest.mark.parametrize("plain", [True, False])
def test_it_compiles_without_a_break(plain):
    module = rewritten(plain=plain)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(X), module(X), atol=1e-5)
    module.rate = 0.25
    assert torch.allclose(compiled(X), module(X), atol=1e-5)
    assert module(X).mean() < 50


@pytest.mark.parametrize("plain", [True, False])
def test_functions_of_torch_func_see_the_original_unless_it_is_plain(plain):
    module = rewritten(plain=plain)
    _, value = torch.func.grad_and_value(lambda x: module(x).mean())(X)
    assert bool(value > 50) == plain


def test_a_tracer_sees_through_plain_forwards():
    module = rewritten(plain=True)
    graph = fx.Tracer().trace(nn.Sequential(module))
    assert any(n.target is torch.add and 100.0 in n.args for n in graph.nodes)


def test_the_signature_stays():
    assert type(rewritten()).forward.__wrapped__ is Block.forward
