"""A site written anew for training: opened, pooled and closed, its norm and its maps in no node of their own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from senet.blocks.free import close_gated, close_project, close_tail, open_site, pixel_conv, pooled
from senet.surgery.fusing.rewrite import Rewriting
from senet.surgery.graph.gates import find
from senet.surgery.graph.neighbours import tails
from senet.surgery.graph.walk import Walk
from tests.surgery.networks import gated, images, network, randomised, wide

X = images((2, 9, 7))


def read(function, change=lambda unit: None):
    model = randomised(network(function))
    change(model[1])
    (reading,) = Walk(model, (X,), modes=(False,)).read(model[1])
    return reading


def agrees(reading):
    """Asserts that the graph computes what the module does, at another size and batch."""
    x = torch.randn(3, 8, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reading.graph.lint()
    with torch.no_grad():
        wanted = reading.twin(x.clone())
        got = fx.Interpreter(reading.twin, graph=reading.graph).run(x.clone())
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def rewritten(function, change=lambda unit: None):
    """The words for each site, and the functions and parts that the graph calls."""
    reading = read(function, change)
    rewriting = Rewriting(reading)
    words = [rewriting.gated(site) for site in find(reading).gated]
    agrees(reading)
    return words, [n.target for n in reading.graph.nodes if n.op.startswith("call")]


SITES = {
    "gate": (lambda m, x: gated(m, x), "gate"),
    "norm": (lambda m, x: gated(m, m.normed(x)), "norm + gate"),
    "sum": (lambda m, x: gated(m, m.normed(x)) + x, "norm + gate + shortcut"),
    "relu": (lambda m, x: torch.relu(gated(m, m.normed(x)) + x), "norm + gate + shortcut + relu"),
    "relu alone": (lambda m, x: torch.relu(gated(m, m.normed(x))), "norm + gate + relu"),
    "sum without a norm": (lambda m, x: torch.relu(gated(m, m.conv(x)) + x), "gate + shortcut + relu"),
    "sizes asked": (
        lambda m, x: (lambda u: (u * m.gate(u.mean((2, 3))).view(u.size(0), u.size(1), 1, 1)).view(u.shape))(
            m.normed(x)
        ),
        "norm + gate",
    ),
}


@pytest.mark.parametrize("kind", SITES)
def test_sites_are_opened_pooled_and_closed(kind):
    function, words = SITES[kind]
    told, called = rewritten(function)
    assert told == [words]
    assert [called.count(each) for each in (open_site, pooled, close_tail)] == [1, 1, 1]
    assert "bn" not in called


@pytest.mark.parametrize(("act", "name"), [(F.relu, "relu"), (F.silu, "silu"), (F.hardswish, "hard_swish")])
def test_activations_are_part_of_a_site(act, name):
    words, called = rewritten(lambda m, x: gated(m, act(m.normed(x))))
    assert words == [f"norm + {name} + gate"]
    assert called.count(close_gated) == 1
    assert act not in called


def test_a_projection_after_an_activated_site_is_part_of_it():
    words, called = rewritten(
        lambda m, x: m.project(gated(m, F.silu(m.normed(x)))),
        lambda unit: unit.add_module("project", nn.Conv2d(8, 4, 1).double()),
    )
    assert words == ["norm + silu + gate + convolution"]
    assert called.count(close_project) == 1
    assert "project" not in called


def test_convolutions_of_a_gate_are_matrix_products():
    def function(m, x):
        u = m.normed(x)
        return u * torch.sigmoid(m.fc(u.mean((2, 3), keepdim=True)))

    _, called = rewritten(function, lambda unit: unit.add_module("fc", nn.Conv2d(8, 8, 1).double()))
    assert called.count(pixel_conv) == 1
    assert "fc" not in called


def test_a_convolution_with_hooks_is_called_as_it_was():
    def function(m, x):
        u = m.normed(x)
        return u * torch.sigmoid(m.fc(u.mean((2, 3), keepdim=True)))

    def hooked(unit):
        unit.add_module("fc", nn.Conv2d(8, 8, 1).double())
        unit.fc.register_forward_hook(lambda *_: None)

    _, called = rewritten(function, hooked)
    assert "fc" in called


def test_one_site_may_begin_with_what_another_ends_with():
    words, called = rewritten(lambda m, x: gated(m, gated(m, m.normed(x)) + x) + x)
    assert words == ["norm + gate + shortcut", "gate + shortcut"]
    assert called.count(open_site) == 2


def test_a_sum_of_two_gated_maps_is_one_pass():
    words, _ = rewritten(lambda m, x: torch.relu(gated(m, m.normed(x)) + gated(m, x * 2)))
    assert words == ["norm + gate + shortcut + relu", "gate"]


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_the_average_has_the_dtype_that_forward_names(dtype):
    reading = read(lambda m, x: (lambda u: u * wide(m.gate(u.mean((2, 3), dtype=dtype).to(u.dtype))))(m.conv(x)))
    (site,) = find(reading).gated
    Rewriting(reading).gated(site)
    (node,) = (n for n in reading.graph.nodes if n.target is pooled)
    assert node.kwargs == ({} if dtype is None else {"dtype": dtype})


def test_ends_of_plain_units_are_rewritten_too():
    reading = read(lambda m, x: torch.relu(m.normed(x) + x))
    ((source, tail),) = tails(reading)
    assert Rewriting(reading).tail(source, tail) == "norm + shortcut + relu"
    agrees(reading)
    assert sum(n.target is close_tail for n in reading.graph.nodes) == 1
    assert not any(n.target is pooled for n in reading.graph.nodes)
