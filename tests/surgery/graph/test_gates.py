"""Gated maps in graphs: pools that are global at every size, and words that stay the same in every graph."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F

from senet.surgery.graph.gates import ONE_PIXEL, find
from senet.surgery.graph.walk import Walk
from tests.surgery.networks import gated, network, randomised, residual, wide

X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def found(function, example=X, **options):
    """A unit's reading, and what was found in it."""
    model = randomised(network(function, **options))
    reading = Walk(model, (example,), modes=(False,)).read(model[1])[0]
    return reading, find(reading)


def by(pool):
    """A unit that is gated by what a function takes of its map."""
    return lambda m, x: (lambda u: u * wide(m.gate(pool(u))) + x)(m.normed(x))


GLOBAL = {
    "mean": lambda u: u.mean((2, 3)),
    "mean of the last axes": lambda u: u.mean((-1, -2)),
    "flattened": lambda u: u.flatten(2).mean(2),
    "one axis, then the other": lambda u: u.mean(3).mean(2),
    "adaptive": lambda u: F.adaptive_avg_pool2d(u, 1).flatten(1),
    "by its sides": lambda u: F.avg_pool2d(u, u.shape[2:]).flatten(1),
    "sum over its sides": lambda u: u.sum((2, 3)) / (u.shape[2] * u.shape[3]),
    "as many cells, then the mean": lambda u: F.adaptive_avg_pool2d(u, (1, 1))[:, :, 0, 0],
}
AT_ONE_SIZE = {
    "a kernel": lambda u: F.avg_pool2d(u, 12).flatten(1),
    "a kernel, averaged": lambda u: F.avg_pool2d(u, 6).mean((2, 3)),
    "cells": lambda u: F.adaptive_avg_pool2d(u, 4).mean((2, 3)),
    "divided by a number": lambda u: u.sum((2, 3)) / 144,
    "a corner": lambda u: u[:, :, :12, :12].mean((2, 3)),
    "resized": lambda u: F.interpolate(u, size=(4, 4), mode="area").mean((2, 3)),
    "clamped": lambda u: u.clamp(-1e4, 1e4).mean((2, 3)),
    "clamped above": lambda u: u.clamp(max=6e4).mean((2, 3)),
}
SQUARE = {
    "its height": lambda u: F.avg_pool2d(u, u.shape[2]).flatten(1),
    "its width": lambda u: F.avg_pool2d(u, u.shape[3]).flatten(1),
    "its height, squared": lambda u: u.sum((2, 3)) / u.shape[2] ** 2,
}


@pytest.mark.parametrize("pool", GLOBAL)
def test_global_averages_are_found(pool):
    reading, its = found(by(GLOBAL[pool]))
    assert not its.refused
    (site,) = its.gated
    assert (site.key, site.place) == (("1", 0), "1")
    assert not reading.square
    assert all(not guards.square for guards in reading.guards())
    assert reading.values[site.pool].numel() == 16
    assert site.tail.shortcut is not None
    assert reading.called(site.source.norm) is reading.twin.bn
    assert site.source.act == "none"


@pytest.mark.parametrize("pool", AT_ONE_SIZE)
def test_pools_that_are_global_at_one_size_or_of_small_values_are_refused(pool):
    reading, its = found(by(AT_ONE_SIZE[pool]))
    assert not its.gated
    (refusal,) = its.refused
    assert "no average of all positions of" in refusal.reason
    assert (refusal.key, refusal.place) == (("1", 0), "1")
    assert not reading.square


@pytest.mark.parametrize("pool", SQUARE)
def test_pools_that_are_global_of_square_maps_are_taken_for_those(pool):
    reading, its = found(by(SQUARE[pool]))
    assert len(its.gated) == 1
    assert not its.refused
    assert reading.square
    assert all(guards.square for guards in reading.guards())


@pytest.mark.parametrize("pool", SQUARE)
def test_pools_of_square_maps_are_refused_where_the_example_is_not_square(pool):
    _, its = found(by(SQUARE[pool]), X[..., :9] if "width" in pool else X[:, :, :9])
    assert not its.gated


def with_more(other):
    return lambda m, x: (lambda u: (torch.relu(u * wide(m.gate(u.mean((2, 3)))) + x), other(m, u))[0] + other(m, u))(
        m.normed(x)
    )


REFUSED = {
    "a sum takes the map": (with_more(lambda m, u: u + 1), "the gated map also goes to a sum"),
    "a product takes the map": (with_more(lambda m, u: u * 2), "the gated map also goes to a product"),
    "a function takes the map": (with_more(lambda m, u: torch.sigmoid(u)), "the gated map also goes to sigmoid"),
    "a layer takes the map": (with_more(lambda m, u: m.conv(u)), "the gated map also goes to Conv2d"),
    "it is returned": (lambda m, x: (lambda u: (gated(m, u), u))(m.normed(x)), "also goes to what is returned"),
    "the gate sees a maximum": (
        by(lambda u: u.mean((2, 3)) + u.amax((2, 3))),
        "the gate sees more of the map than its global average",
    ),
    "the pool's way forks": (
        lambda m, x: (lambda u, f: u * wide(m.gate(f.mean(2))) + f.sum())(*(lambda u: (u, u.flatten(2)))(m.normed(x))),
        "flatten, on the way to the pool, also goes to",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refusals_are_in_words_that_name_no_node(kind):
    function, reason = REFUSED[kind]
    reading, its = found(function)
    assert not its.gated
    (refusal,) = its.refused
    assert reason in refusal.reason
    numbered = {node.name for node in reading.graph.nodes if re.search(r"_\d+$|^input_", node.name)}
    assert not numbered & set(re.findall(r"\w+", refusal.reason))


def test_the_same_refusal_has_the_same_key_and_words_in_a_larger_graph():
    model = randomised(network(REFUSED["a sum takes the map"][0]))
    walk = Walk(model, (X,), modes=(False,))
    inner, outer = (find(walk.read(module)[0]).refused for module in (model[1], model))
    assert [(r.key, r.place, r.reason) for r in inner] == [(r.key, r.place, r.reason) for r in outer]


def test_of_one_pixel_nothing_is_believed():
    _, its = found(residual, X[..., :1, :1])
    assert [r.reason for r in its.refused] == [ONE_PIXEL]
    assert not its.gated


def test_products_of_other_kinds_are_none():
    for function in (
        lambda m, x: m.normed(x) * wide(m.gate(x.mean((2, 3)))) * 2,
        lambda m, x: x * x,
        lambda m, x: x * x.mean(1, keepdim=True),
        lambda m, x: x * x.mean((0, 2, 3), keepdim=True),
    ):
        _, its = found(function)
        assert not its.gated
        assert not its.refused


def test_two_gated_maps_have_keys_in_the_order_of_the_graph():
    _, its = found(lambda m, x: gated(m, m.conv(gated(m, m.normed(x)))))
    assert [site.key for site in its.gated] == [("1", 0), ("1", 1)]


def test_a_sum_of_two_gated_maps_belongs_to_the_first():
    _, its = found(lambda m, x: torch.relu(gated(m, m.normed(x)) + gated(m, m.conv(x))))
    first, second = its.gated
    assert first.tail.relu
    assert first.tail.shortcut is second.product
    assert second.tail.nodes == ()
    assert second.tail.shortcut is None


def test_the_dtype_of_the_average_is_the_one_that_is_named():
    for pool, dtype in (
        (lambda u: u.float().mean((2, 3)).to(u.dtype), torch.float32),
        (lambda u: u.mean((2, 3), dtype=torch.float32).to(u.dtype), torch.float32),
        (lambda u: u.mean((2, 3)), None),
    ):
        _, its = found(by(pool))
        assert its.gated[0].dtype is dtype


def test_expansions_of_the_gate_are_part_of_the_site():
    reading, its = found(lambda m, x: (lambda u: u * wide(m.gate(u.mean((2, 3)))).expand_as(u))(m.normed(x)))
    (site,) = its.gated
    assert reading.values[site.gate].numel() == 16
    assert [n.target for n in site.expands] == ["expand_as"]


def test_what_was_found_is_found_once():
    reading, its = found(residual)
    assert find(reading) is its


@pytest.mark.parametrize(("axes", "example"), [(1, torch.randn(2, 3, 20)), (3, torch.randn(2, 3, 4, 5, 6))])
def test_signals_and_volumes(axes, example):
    def function(m, x):
        u = m.normed(x)
        return u * m.gate(u.flatten(2).mean(2)).view(*u.shape[:2], *[1] * axes) + x

    _, its = found(function, example, axes=axes)
    assert len(its.gated) == 1
