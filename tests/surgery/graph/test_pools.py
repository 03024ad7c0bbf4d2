"""Averages of all positions at every size, told from those that are one at the example's alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from senet.surgery.graph.gates import find
from senet.surgery.graph.pools import Pool, is_average, is_square, not_global
from senet.surgery.graph.walk import Walk
from tests.surgery.networks import images, network, wide


def read(pool, size=(2, 12, 12)):
    """The unit's reading, and the map and the value that is its average in the example."""

    def forward(m, x):
        u = m.normed(x)
        return u * wide(m.gate(pool(u).flatten(1)))

    model = network(forward).double()
    walk = Walk(model, (images(size),), modes=(False,))
    (reading,) = walk.read(model[1])
    u = next(n for n in reading.graph.nodes if n.op == "call_module" and n.target == "bn")
    mean = reading.values[u].mean((2, 3)).flatten()
    nodes = list(reading.graph.nodes)
    node = next(n for n in nodes if n is not u and is_average(reading.values[n], mean, reading.values[u].shape))
    return reading, Pool(u, node, tuple(n for n in nodes if u < n <= node))


@pytest.mark.parametrize(
    "pool", [lambda u: u.mean((2, 3)), lambda u: F.adaptive_avg_pool2d(u, 1), nn.AdaptiveAvgPool2d(1)]
)
def test_global_at_every_size(pool):
    reading, found = read(pool)
    assert not_global(reading, found, square=False) is None
    assert len(find(reading).gated) == 1


@pytest.mark.parametrize(
    ("pool", "told"),
    [
        (lambda u: F.avg_pool2d(u, 12), "all positions"),
        (lambda u: u.sum((2, 3)) / 144, "all positions"),
        (lambda u: u.clamp(-1e4, 1e4).mean((2, 3)), "large values"),
        (lambda u: u[:, :, :12, :12].mean((2, 3)), "a part of them by numbers"),
        (lambda u: u.narrow(2, 0, 12).mean((2, 3)), "a part of them by numbers"),
    ],
    ids=["kernel", "number", "clamp", "slice", "narrow"],
)
def test_global_in_the_example_alone(pool, told):
    reading, found = read(pool)
    assert told in not_global(reading, found, square=False)
    assert find(reading).gated == []


def test_global_for_squares():
    reading, found = read(lambda u: F.avg_pool2d(u, u.size(2)))
    assert is_square(reading, found)
    assert not_global(reading, found, square=False) is not None
    assert not_global(reading, found, square=True) is None


def test_no_square():
    reading, found = read(lambda u: u.mean((2, 3)), size=(2, 12, 9))
    assert not is_square(reading, found)


def test_what_is_an_average():
    u = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    mean = u.mean((2, 3)).flatten()
    assert is_average(u.mean((2, 3), keepdim=True), mean, u.shape)
    assert not is_average(u.amax((2, 3)), mean, u.shape)
    assert not is_average(mean, mean, u.shape)  # images and channels in one
    assert not is_average("mean", mean, u.shape)
