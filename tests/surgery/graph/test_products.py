"""Gated products are known in a run by what is computed, and other products are none."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from senet.surgery.graph.observe import observe
from senet.surgery.graph.run import float64_twin
from tests.surgery.graph.test_observe import X, products, seen
from tests.surgery.networks import gated, network, randomised, residual, wide


def by(pool):
    """A unit that is gated by what a function takes of its map."""
    return lambda m, x: (lambda u: u * wide(m.gate(pool(u))) + x)(m.normed(x))


GATED = {
    "residual": residual,
    "mean": by(lambda u: u.mean((2, 3))),
    "adaptive pool": by(lambda u: F.adaptive_avg_pool2d(u, 1).flatten(1)),
    "pool by its size": by(lambda u: F.avg_pool2d(u, u.shape[2:]).flatten(1)),
    "a sum, divided": by(lambda u: u.sum((2, 3)) / u[0, 0].numel()),
    "in float32": by(lambda u: u.float().mean((2, 3))),
    "scaled": lambda m, x: 2 * gated(m, m.normed(x)),
    "gate first": lambda m, x: (lambda u: wide(m.gate(u.mean((2, 3)))) * u)(m.normed(x)),
    "expanded": lambda m, x: (lambda u: u * wide(m.gate(u.mean((2, 3)))).expand_as(u))(m.normed(x)),
    "in place": lambda m, x: (lambda u: u.mul_(wide(m.gate(u.mean((2, 3))))))(m.normed(x)),
    "addcmul": lambda m, x: (lambda u: torch.addcmul(x, u, wide(m.gate(u.mean((2, 3))))))(m.normed(x)),
    "einsum": lambda m, x: (lambda u: torch.einsum("nchw,nc->nchw", u, m.gate(u.mean((2, 3)))))(m.normed(x)),
    "under a loop over numbers": lambda m, x: residual(m, x) if float(x.sum()) < 1e9 else x,
    "average pool by its side": by(lambda u: F.avg_pool2d(u, 12).flatten(1)),
}


@pytest.mark.parametrize("kind", GATED)
def test_a_product_of_a_map_and_a_gate_of_its_average_is_seen(kind):
    assert products(GATED[kind]) == {"1": 1}


NOT_GATED = {
    "maximum": by(lambda u: u.amax((2, 3))),
    "another map's average": lambda m, x: m.normed(x) * wide(m.gate(x.mean((2, 3)))),
    "numbers of no map": lambda m, x: m.normed(x) * wide(m.gate(x.new_ones(x.shape[:2]))),
    "a gate of positions": lambda m, x: x * x.mean(1, keepdim=True).sigmoid(),
    "no product": lambda m, x: m.normed(x) + x.mean((2, 3), keepdim=True),
    "half of the map": by(lambda u: u[:, :, :6].mean((2, 3))),
}


@pytest.mark.parametrize("kind", NOT_GATED)
def test_other_products_are_none(kind):
    assert products(NOT_GATED[kind]) == {}


@pytest.mark.parametrize(("pooled", "count"), [(True, 1), (False, 0)])
def test_of_one_pixel_an_average_must_have_been_taken(pooled, count):
    function = by(lambda u: u.mean((2, 3)) if pooled else u.flatten(1))
    twin = float64_twin(randomised(network(function)))
    assert sum(observe(twin, (X[:, :, :1, :1],)).gated.values()) == count


@pytest.mark.parametrize(("axes", "shape"), [(1, (2, 3, 20)), (3, (2, 3, 4, 5, 6))])
def test_signals_and_volumes_are_maps_too(axes, shape):
    def function(m, x):
        u = m.normed(x)
        return u * m.gate(u.flatten(2).mean(2)).view(*u.shape[:2], *[1] * axes)

    twin, observed = seen(randomised(network(function, axes=axes)), torch.randn(shape))
    assert dict(observed.gated) == {twin[1]: 1}


ODD = {
    "no image": lambda y: y[:0].relu() * 2,
    "no channel": lambda y: (y[:, :0] + 1).sum((2, 3)),
    "sparse": lambda y: (y.detach().to_sparse() * 2).coalesce().values(),
    "nested": lambda y: torch.nested.nested_tensor([y[0], y[1, :, :2]]) * 2,
    "complex": lambda y: torch.fft.rfft2(y) * 2,
    "one number": lambda y: y.sum() * 2,
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype")
@pytest.mark.parametrize("kind", ODD)
def test_tensors_of_other_kinds_are_passed_over(kind):
    def function(m, x):
        y = gated(m, m.normed(x))
        ODD[kind](y)
        return y

    assert sum(products(function).values()) == 1
