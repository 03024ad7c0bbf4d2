from __future__ import annotations

import pytest
import timm
import torch
from timm.layers import SEModule
from torch import nn

from senet.blocks import create_block
from senet.errors import InputError
from senet.surgery import fold, fuse, report
from senet.surgery.attaching.attach import attach
from senet.surgery.gating import freeze as freeze_module
from senet.surgery.gating.find import find_gates
from senet.surgery.gating.freeze import freeze_gates, frozen
from senet.surgery.gating.tap import listen
from senet.surgery.graph.gates import find
from senet.surgery.graph.run import randomise_norms
from senet.surgery.graph.walk import Walk

X = torch.randn(2, 3, 32, 32, dtype=torch.float64)
GATES = {"ours": lambda: create_block("se", 16), "timm": lambda: SEModule(16)}

AROUND = {
    "tuple before": lambda m, u: (u, m.se(u)),
    "dict before": lambda m, u: {"u": u, "gated": m.se(u)},
    "list before": lambda m, u: [[u], m.se(u)],
    "chunk before": lambda m, u: m.se(u) + torch.cat(u.chunk(2, 1)[::-1], 1),
    "unbind before": lambda m, u: m.se(u) + torch.stack(u.unbind(1), 1).flip(1),
    "tuple after": lambda m, u: (v := m.se(torch.tanh(u)), m.next(v)),
    "chunk after": lambda m, u: m.next(v := m.se(torch.tanh(u))) * v.chunk(2, 1)[0],
}


class Around(nn.Module):
    """A gate between two layers, around which other things happen to its map."""

    def __init__(self, se, forward):
        super().__init__()
        self.conv, self.bn, self.se, self.next = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), se, nn.Conv2d(16, 8, 1)
        self.around = forward

    def forward(self, x):
        return self.around(self, self.bn(self.conv(x)))


def prepared(model):
    randomise_norms(model)
    return model.double().eval()


def tensors(out):
    if isinstance(out, torch.Tensor):
        return [out]
    return [each for part in (out.values() if isinstance(out, dict) else out) for each in tensors(part)]


def drawn(model, x=X):
    """Random values for all gates of a model, and what it computes with its gates set to them."""
    sites, held_at = find_gates(model, (x,)), {}

    def hear(name, gate):
        if name not in held_at:
            held_at[name] = torch.rand(gate.shape[1]).double() * 0.8 + 0.1
        return held_at[name].view(1, -1, *(1,) * (gate.ndim - 2)).expand_as(gate).clone()

    with listen(sites, hear), torch.no_grad():
        model(x)
        torch.manual_seed(0)
        return held_at, tensors(model(x))


def error(got, wanted):
    return max(float((g - w).abs().max() / w.abs().max()) for g, w in zip(got, wanted, strict=True))


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("around", AROUND)
def test_a_map_that_also_goes_elsewhere_in_something_stays_as_it_is(gate, around):
    model = prepared(Around(GATES[gate](), AROUND[around]))
    wide, wanted = drawn(model)
    constant, (one,) = frozen(model, wide, example=(X,))
    with torch.no_grad():
        assert error(tensors(constant(X)), wanted) <= 1e-10
    assert not one.folded


def test_sizes_are_nowhere_else():
    """What asks a map for its sizes alone does not keep its layer from being folded."""
    forward = lambda m, u: m.se(u).flatten(2).view(u.size(0), *(u.shape[i] for i in (1, 2, 3)))  # noqa: E731
    wide, _ = drawn(model := prepared(Around(GATES["ours"](), forward)))
    assert frozen(model, wide, example=(X,))[1][0].became == "folded into bn"


def test_features_of_several_depths():
    model = timm.create_model("vgg11_bn", features_only=True, out_indices=(0, 1, 2))
    attach(model, "se", where=lambda name, module: isinstance(module, nn.MaxPool2d | nn.ReLU), example=(X.float(),))
    wide, wanted = drawn(prepared(model))
    constant, gates = frozen(model, wide, example=(X,))
    with torch.no_grad():
        assert error(tensors(constant(X)), wanted) <= 1e-10
    assert any(gate.folded for gate in gates)


class Written(nn.Module):
    """A gate written down in a forward, which goes elsewhere too."""

    def __init__(self, forward):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.fc, self.gate = nn.Conv2d(16, 16, 1), nn.Sigmoid()
        self.rest = forward

    def forward(self, x):
        u = self.bn(self.conv(x))
        return self.rest(u, self.gate(self.fc(u.mean((2, 3), keepdim=True))))


GATE_GOES = {
    "returned": lambda u, g: (u * g, g),
    "chunk": lambda u, g: u * g + torch.cat(g.chunk(2, 1)[::-1], 1),
}


@pytest.mark.parametrize("goes", GATE_GOES)
def test_a_gate_that_also_goes_elsewhere_is_held_where_it_gates(goes):
    model = prepared(Written(GATE_GOES[goes]))
    (site,) = find_gates(model, (X,))
    assert site.tapped is not None  # a hook would change what else it goes to
    with torch.no_grad():
        before = tensors(model(X))
        wide, wanted = drawn(model)
        constant, (one,) = frozen(model, wide, example=(X,))
        assert error(tensors(constant(X)), wanted) <= 1e-10
    if goes == "returned":
        assert torch.equal(wanted[1], before[1])
    assert one.parameters == 0  # the gate is still computed


@pytest.mark.parametrize("rest", [lambda u, g: (u, u * g), lambda u, g: u * g + torch.cat(u.chunk(2, 1), 1)])
def test_written_gates_whose_map_goes_elsewhere_are_no_sites(rest):
    model = prepared(Written(rest))
    found = find(*Walk(model, (X,), modes=(False,)).read(model))
    assert not found.gated
    assert "the gated map also goes to" in found.refused[0].reason


@pytest.mark.parametrize(
    "rest", [lambda u, g: (v := u * g, torch.relu(v + u.shape[0])), lambda u, g: [torch.relu(v := u * g), v]]
)
def test_a_product_that_is_also_returned_has_no_tail(rest):
    model = prepared(Written(rest))
    (site,) = find(*Walk(model, (X,), modes=(False,)).read(model)).gated
    assert not site.tail.nodes
    with torch.no_grad():
        wanted = model(X)
        assert error(fold(model, example=(X,))(X), wanted) <= 1e-10
        fuse(model, example=(X,))
        assert error(model(X), wanted) <= 1e-10
    assert report(model).taken


class Called(nn.Module):
    def __init__(self, se, conv):
        super().__init__()
        self.before, self.se, self.after, self.call = nn.Conv2d(3, 16, 1), se, nn.Conv2d(16, 4, 1), conv

    def forward(self, x):
        if self.call == "gate":
            return self.after(self.se(u=self.before(x)))
        return self.after(input=self.se(self.before(input=x)))


def test_calls_by_keyword():
    with pytest.raises(InputError, match=r"'se' is called by keyword; pass the map by position"):
        freeze_gates(Called(GATES["ours"](), "gate"), {"se": torch.ones(16)})
    wide, wanted = drawn(model := prepared(Called(GATES["ours"](), "layers")))
    constant, (one,) = frozen(model, wide)
    with torch.no_grad():
        assert error(tensors(constant(X)), wanted) <= 1e-10
    assert one.became == "before is called by keyword; after is called by keyword"


@pytest.mark.parametrize("gate", GATES)
def test_under_inference_mode(gate):
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Tanh(), GATES[gate](), nn.Tanh()).double()
    with torch.inference_mode():
        constant = freeze_gates(model, {"2": torch.rand(16, dtype=torch.float64)}, example=(X,))
    constant(X).sum().backward()
    assert constant[0].weight.grad.any()


STAY = [
    nn.AlphaDropout(0.5),
    nn.FeatureAlphaDropout(0.5),
    nn.Hardshrink(1e-3),
    nn.Threshold(1e-4, 0.0),
    nn.Softshrink(1e-5),
]
PASS = [nn.Dropout(0.5), nn.Dropout2d(0.5), nn.RReLU(), nn.PReLU(), nn.LeakyReLU(0.1), nn.Upsample(scale_factor=2)]


@pytest.mark.parametrize(("between", "folded"), [(m, False) for m in STAY] + [(m, True) for m in PASS])
@pytest.mark.parametrize("training", [True, False])
def test_what_a_scale_passes_in_both_modes(between, folded, training):
    model = nn.Sequential(create_block("se", 3), between, nn.Conv2d(3, 8, 1)).double().train(training)
    wide, wanted = drawn(model)
    constant, (one,) = frozen(model, wide, example=(X,))
    torch.manual_seed(0)
    with torch.no_grad():
        assert error(tensors(constant(X)), wanted) <= 1e-10
    assert one.folded == folded


@pytest.mark.parametrize("gate", ["ours", "written"])
def test_parameters_that_others_use_are_not_gone(gate):
    if gate == "ours":
        one, two = create_block("se", 16), create_block("se", 16)
        two.fc1, two.fc2 = one.fc1, one.fc2
    else:
        one, two = SEModule(16), SEModule(16)
        two.fc1, two.fc2 = one.fc1, one.fc2
    model = nn.Sequential(nn.Conv2d(3, 16, 3), one, nn.Conv2d(16, 16, 3), two).double()
    ones = torch.ones(16)
    for names in (["1"], ["3"], ["1", "3"]):
        constant, gates = frozen(model, dict.fromkeys(names, ones), example=(X,))
        gone = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in constant.parameters())
        assert sum(gate.parameters for gate in gates) == gone
        assert (gone > 0) == (len(names) == 2)


@pytest.mark.parametrize("value", [torch.zeros(16), torch.arange(16) % 2.0])
def test_gates_that_are_shut(value):
    model = prepared(nn.Sequential(nn.Conv2d(3, 16, 3), create_block("se", 16), nn.Conv2d(16, 4, 1)))
    constant, (one,) = frozen(model, {"1": value}, example=(X,))
    assert one.became == "folded into 0"
    with torch.no_grad():
        wanted = model[2](model[0](X) * value.double()[:, None, None])
        assert error([constant(X)], [wanted]) <= 1e-10


def test_numbers_beyond_half_precision():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), create_block("se", 16)).half()
    with pytest.raises(InputError, match=r"values of '1' are beyond torch.float16; give smaller ones"):
        freeze_gates(model, {"1": torch.full((16,), 1e6)})
    with torch.no_grad():
        model[0].weight.fill_(2.0)
    constant, (one,) = frozen(model, {"1": torch.full((16,), 6e4)})
    assert one.became.startswith("folded into 0 its weights are beyond torch.float16")
    assert torch.equal(constant[0].weight, model[0].weight)


def test_the_values_are_the_copys_own():
    value = torch.rand(16, dtype=torch.float64)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Tanh(), create_block("se", 16), nn.Tanh()).double()
    constant = freeze_gates(model, {"2": value})
    before = constant[2].scale.clone()
    value.zero_()
    assert torch.equal(constant[2].scale, before)


def test_a_copy_that_computes_something_else_is_not_given_out(monkeypatch):
    """As where a fold were wrong: here one that leaves the scale out."""

    def folds_nothing(model, scales, example):
        for scale in scales:
            scale.scale.fill_(1.0)
        return dict.fromkeys(scales, (True, "folded into nothing"))

    monkeypatch.setattr(freeze_module, "absorb_scales", folds_nothing)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), create_block("se", 16))
    with pytest.raises(RuntimeError, match="with its gates frozen the network differs by"):
        freeze_gates(model, {"1": torch.full((16,), 0.5)})
