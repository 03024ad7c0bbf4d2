from __future__ import annotations

import copy
import pickle

import pytest
import torch
from timm.layers import SEModule
from torch import nn

import senet
from senet.errors import InputError
from senet.surgery.gating.find import find_gates
from senet.surgery.gating.freeze import freeze_gates
from senet.surgery.gating.tap import listen
from senet.surgery.graph.install import Rewritten


class Inline(nn.Module):
    """Two gates written down in one forward."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Sequential(nn.Conv2d(8, 8, 1))

    def forward(self, x):
        u = self.conv(x)
        u = u * torch.sigmoid(self.fc(u.mean((2, 3), keepdim=True)))
        u = self.head(u)
        return u * torch.tanh(self.fc(u.mean((2, 3), keepdim=True)))


X = torch.randn(2, 3, 8, 8)


def gates(model, x=X):
    with torch.no_grad():
        u = model.conv(x)
        first = torch.sigmoid(model.fc(u.mean((2, 3), keepdim=True)))
        v = model.head(u * first)
        second = torch.tanh(model.fc(v.mean((2, 3), keepdim=True)))
    return first, second, v


def nothing_left(model):
    return not any(isinstance(m, Rewritten) or m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_gates_that_no_module_gives():
    model, heard = Inline(), {}
    plain = model(X)
    with listen(find_gates(model), heard.__setitem__):
        assert torch.equal(model(X), plain)
    first, second, _ = gates(model)
    assert torch.equal(heard["the model"], first)
    assert torch.equal(heard["the model:2"], second)
    assert nothing_left(model)
    assert type(model) is Inline


def test_one_of_two_is_replaced():
    model = Inline()
    _, _, v = gates(model)
    with listen(find_gates(model), lambda site, gate: torch.ones_like(gate) if site.endswith(":2") else None):
        torch.testing.assert_close(model(X), v)


@pytest.mark.parametrize("model", [Inline(), nn.Sequential(nn.Conv2d(3, 8, 1), SEModule(8))], ids=["tap", "hook"])
@pytest.mark.parametrize("first_out", ["inner", "outer"])
def test_several_listen_at_a_time(model, first_out):
    """Each hears what those before it made of the gate; any may leave first."""
    heard = []

    def hear(name, factor):
        return lambda _, gate: heard.append((name, gate.detach().mean().item())) or gate * factor

    plain = model(X)
    outer, inner = listen(find_gates(model), hear("outer", 2)), None
    outer.__enter__()
    inner = listen(find_gates(model), hear("inner", 3))
    inner.__enter__()
    model(X)
    assert [name for name, _ in heard[:2]] == ["outer", "inner"]
    assert heard[1][1] == pytest.approx(2 * heard[0][1])
    first, last = (inner, outer) if first_out == "inner" else (outer, inner)
    first.__exit__(None, None, None)
    heard.clear()
    model(X)
    assert {name for name, _ in heard} == {"outer" if first is inner else "inner"}
    last.__exit__(None, None, None)
    assert nothing_left(model)
    assert torch.equal(model(X), plain)


@pytest.mark.parametrize("call", [lambda m: m(x=X), lambda m: m(X[:0])], ids=["keyword", "empty"])
def test_a_call_in_which_a_gate_would_be_missed(call):
    model = nn.Sequential(Inline())
    with pytest.raises(InputError, match="would be missed in this call"), listen(find_gates(model), lambda *_: None):
        call(model[0])
    assert nothing_left(model)


def test_hooks_on_parts_of_a_tapped_forward():
    model = Inline()
    handle = model.head.register_forward_hook(lambda *_: None)
    with pytest.raises(InputError, match="no hooks on its parts"), listen(find_gates(model), lambda *_: None):
        model(X)
    handle.remove()
    assert nothing_left(model)


def test_a_fused_model_stays_fused():
    model = senet.fuse(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), SEModule(8), nn.Conv2d(8, 3, 1), Inline()))
    classes, heard = [type(m) for m in model.modules()], {}
    assert any(issubclass(c, Rewritten) for c in classes)
    plain = model(X)
    with listen(find_gates(model), heard.__setitem__):
        torch.testing.assert_close(model(X), plain)
    assert list(heard) == ["2", "4", "4:2"]
    assert [type(m) for m in model.modules()] == classes
    assert torch.equal(model(X), plain)


def test_gradients_flow_through_a_tap():
    model = Inline()
    with listen(find_gates(model), lambda _, gate: gate**2):
        model(X).sum().backward()
    assert model.fc.weight.grad.abs().sum() > 0


def hooked():
    return nn.Sequential(nn.Conv2d(3, 8, 1), SEModule(8))


@pytest.mark.parametrize("make", [Inline, hooked], ids=["tap", "hook"])
@pytest.mark.parametrize(
    "change",
    [
        senet.fuse,
        senet.unfuse,
        lambda model: senet.fuse(copy.deepcopy(model)),
        lambda model: freeze_gates(model, {find_gates(model)[0].name: torch.ones(8)}),
    ],
    ids=["fuse", "unfuse", "fuse a copy", "hold"],
)
def test_what_changes_a_model_waits_for_the_end(make, change):
    model = make()
    if change is senet.unfuse:
        senet.fuse(model)
    classes, heard = [type(m) for m in model.modules()], {}
    with listen(find_gates(model), heard.__setitem__):
        with pytest.raises(InputError, match="are being recorded; end the recording first"):
            change(model)
        model(X)
    assert heard
    assert [type(m) for m in model.modules()] == classes
    change(model)


def test_a_pickle_holds_no_listeners():
    model = hooked()
    with listen(find_gates(model), lambda *_: None), pytest.raises(InputError, match="which no pickle holds"):
        pickle.dumps(model)
    pickle.dumps(model)


@pytest.mark.parametrize("make", [Inline, hooked], ids=["tap", "hook"])
@pytest.mark.parametrize("fused", [False, True])
def test_a_copy_made_meanwhile_can_be_fused_afterwards(make, fused):
    model = make()
    plain = model(X)
    if fused:
        senet.fuse(model)
    with listen(find_gates(model), lambda _, gate: 0 * gate):
        twin = copy.deepcopy(model)
    if fused:
        senet.unfuse(twin)
    senet.fuse(twin)
    assert [type(m).__name__ for m in twin.modules()] == [type(m).__name__ for m in model.modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in twin.modules())
    torch.testing.assert_close(twin(X), plain)
    assert nothing_left(senet.unfuse(twin))
