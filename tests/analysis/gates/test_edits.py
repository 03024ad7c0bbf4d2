from __future__ import annotations

import pytest
import torch

from senet.analysis.gates.edits import Edits, by_channel, first_call
from senet.errors import InputError

SITES = ("layer1.0.se", "layer1.1.se", "layer4.0.se")
GATE = torch.rand(4, 3, 1, 1)


def applied(edit, gate=GATE, site="layer1.0.se"):
    edited = Edits({"layer1.0.se": edit}, SITES).apply(site, gate)
    assert edited.shape == gate.shape
    assert edited.dtype == gate.dtype
    return edited


@pytest.mark.parametrize("gate", [GATE, GATE.flatten(1), torch.rand(4, 3, 5, 2), GATE.bfloat16(), GATE.double()])
def test_numbers_and_values(gate):
    assert (applied(0.5, gate) == 0.5).all()
    assert (applied(1, gate) == 1).all()
    for values in (torch.rand(3), torch.rand(4, 3, dtype=torch.float64)):
        wanted = values.to(gate.dtype).expand(4, 3).view(4, 3, *(1,) * (gate.ndim - 2)).expand_as(gate)
        assert torch.equal(applied(values, gate), wanted)


def test_mean_and_shuffle_are_over_images():
    gate = torch.rand(5, 3, 2, 2)
    assert torch.equal(applied("mean", gate), gate.mean(0, keepdim=True).expand_as(gate))
    torch.manual_seed(3)
    shuffled = applied("shuffle", gate)
    torch.manual_seed(3)
    assert torch.equal(shuffled, gate[torch.randperm(5)])
    assert not torch.equal(shuffled, gate)
    assert torch.equal(applied("shuffle", gate[:1]), gate[:1])


def test_a_function_is_given_channels():
    gate = torch.rand(4, 3, 2, 5)
    edited = applied(lambda s: 2 * s, gate)
    torch.testing.assert_close(edited, (2 * gate.mean((2, 3), keepdim=True)).expand_as(gate))


def test_what_is_given_back_may_be_written_into():
    values = torch.rand(4, 3)
    applied(values).zero_()
    assert values.min() > 0
    applied(torch.rand(3), torch.rand(4, 3, 2, 2)).mul_(2)


def test_gradients_flow():
    gate = torch.rand(4, 3, 1, 1, requires_grad=True)
    for edit in ("mean", "shuffle", lambda s: s * s):
        (grad,) = torch.autograd.grad(applied(edit, gate).sum(), gate)
        assert (grad != 0).all()
    values = torch.rand(3, requires_grad=True)
    applied(values).sum().backward()
    assert torch.equal(values.grad, torch.full((3,), 4.0))


def test_own_name_then_first_call_then_globs_in_their_order():
    edits = Edits({"*": 0, "layer1.*": 1, "layer1.0.se": 2, "layer1.0.se#2": 3}, SITES)
    found = {site: edits.apply(site, GATE).unique().item() for site in (*SITES, "layer1.0.se#2", "layer1.0.se#3")}
    assert found == {"layer1.0.se": 2, "layer1.1.se": 0, "layer4.0.se": 0, "layer1.0.se#2": 3, "layer1.0.se#3": 2}
    assert Edits({"layer4*": 0}, SITES).apply("layer1.0.se", GATE) is None


@pytest.mark.parametrize(
    ("edits", "said"),
    [
        ({"layer1.0.s": 1}, "no site is called 'layer1.0.s'; did you mean 'layer1.0.se'"),
        ({"stage*": 1}, r"no site is called 'stage\*'; known: layer1.0.se"),
        ({"layer1*": "means"}, "is 'means'; did you mean 'mean'"),
        ({"layer1*": None}, "is None; accepted: a number"),
        ({"layer1*": float("nan")}, "is nan; accepted: a finite number"),
        ({"layer1*": -float("inf")}, "is -inf; accepted: a finite number"),
        ({"layer1*": True}, "is True; accepted: a number"),
        ({"layer1*": torch.rand(2, 3, 1, 1)}, r"shape is \(2, 3, 1, 1\); accepted: \(channels,\)"),
        ([("layer1*", 1)], "edit is list; accepted: site names or globs"),
    ],
)
def test_refused_at_once(edits, said):
    with pytest.raises(InputError, match=said):
        Edits(edits, SITES)


@pytest.mark.parametrize("edit", [torch.rand(4), torch.rand(1, 3), torch.rand(3, 3), lambda s: s.mean(), lambda _: 1])
def test_values_of_another_shape(edit):
    with pytest.raises(InputError, match=r"for gates \(4, 3\); give that, or \(channels,\)"):
        applied(edit)


def test_names_and_channels():
    assert first_call("layer1.0.se#2") == first_call("layer1.0.se") == "layer1.0.se"
    gate = torch.rand(2, 3, 4, 5)
    assert torch.equal(by_channel(gate), gate.flatten(2).mean(2))
    assert by_channel(gate[:, :, :1, :1]).shape == (2, 3)
