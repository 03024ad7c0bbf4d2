"""Graphs for inference: blocks of ours as PyTorch's own operators, and no identities."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from senet.blocks import SqueezeExcite
from senet.blocks.stages import excited
from senet.surgery.folding.blocks import plain_graph
from senet.surgery.graph.walk import Walk
from tests.surgery.networks import images, randomised

X = images((2, 9, 7))


def plain(model, x=X):
    """A model's twin and its plain graph, which computes the same at another size."""
    walk = Walk(randomised(model).eval(), (x,), modes=(False,), prepare=plain_graph)
    (reading,) = walk.read(walk.model)
    reading.graph.lint()
    other = torch.cat((x, x), 2)
    with torch.no_grad():
        got = fx.Interpreter(reading.twin, graph=reading.graph).run(other)
        torch.testing.assert_close(got, reading.twin(other), rtol=1e-10, atol=1e-12)
    return reading


@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid", "tanh", "relu"])
def test_excitations_of_averages_are_opened(gate):
    reading = plain(nn.Sequential(nn.Conv2d(3, 8, 1), SqueezeExcite(8, reduction=2, gate=gate)))
    assert all(n.target is not excited for n in reading.graph.nodes)
    assert any(n.target == "mean" for n in reading.graph.nodes)
    called = [str(n.target) for n in reading.graph.nodes if n.op == "call_module"]
    assert called[0] == "0"
    assert all(reading.twin.get_submodule(name) for name in called)


def test_excitations_of_maxima_stay():
    reading = plain(nn.Sequential(nn.Conv2d(3, 8, 1), SqueezeExcite(8, reduction=2, squeeze="max")))
    assert any(n.target is excited for n in reading.graph.nodes)


def test_two_blocks_are_opened_with_layers_of_their_own():
    blocks = (SqueezeExcite(8, reduction=2), SqueezeExcite(8, reduction=4))
    reading = plain(nn.Sequential(nn.Conv2d(3, 8, 1), *blocks))
    called = {str(n.target).partition(".")[0] for n in reading.graph.nodes if n.op in ("call_module", "get_attr")}
    assert called == {"0", "1", "2"}


def test_identities_go():
    class Own(nn.Identity):
        """An identity of somebody's own, which may be told apart."""

    model = nn.Sequential(nn.Identity(), nn.Conv2d(3, 8, 1), nn.Sequential(nn.Identity(), nn.ReLU()), Own())
    reading = plain(model)
    assert [n.target for n in reading.graph.nodes if n.op == "call_module"] == ["1", "2.1", "3"]
