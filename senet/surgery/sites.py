"""Finds squeeze-and-excitation in a graph by what is computed, not by what it is called.

A gated map is a product of a map u (N, C, H, W) and a gate that is constant over each of its channels and depends on
u through its global average alone. Whether a value is an average, a norm's output or a known activation of another is
asked of the values themselves (:func:`~senet.surgery.trace.values`), so every way to write it is recognised.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, fx

from senet.surgery.chains import RTOL, Normed, Tail, conv_after, holds_tensors, is_map, normed, tail_after
from senet.surgery.trace import Traced

__all__ = ["ONE_PIXEL", "Gated", "Refused", "find", "may_gate", "reaching"]

ONE_PIXEL = "the map has one pixel in the example, where anything is its average; give a larger example"

_MUL = (operator.mul, operator.imul, torch.mul, "mul", "mul_")


class Refused(Exception):  # noqa: N818 - it is no error of the user's
    """A product that looks like a gated map and is none that surgery can take over; the message says why."""


@dataclass(frozen=True)
class Gated:
    """A map u times a gate computed from its global average.

    Attributes:
        u: the map.
        pool: the node that gives its global average, (N, C) or (N, C, 1, 1).
        to_pool: nodes between u and the pool, the pool included.
        gate: what the map is multiplied by, before it is expanded.
        expands: nodes between the gate and the product.
        product: the product.
        source: where u comes from, if from a norm.
        tail: what follows.
        to_conv: nodes after the product up to the convolution that alone takes it, if one does.
    """

    u: fx.Node
    pool: fx.Node
    to_pool: tuple[fx.Node, ...]
    gate: fx.Node
    expands: tuple[fx.Node, ...]
    product: fx.Node
    source: Normed | None
    tail: Tail = field(default_factory=Tail)
    to_conv: tuple[fx.Node, ...] = ()


def may_gate(graph: fx.Graph) -> bool:
    """Whether a graph has a product of two values at all, so that :func:`find` could find something in it."""

    def two_values(node: fx.Node) -> bool:
        return [isinstance(a, fx.Node) and a.op != "get_attr" for a in node.args] == [True, True]

    return any(node.target in _MUL and two_values(node) for node in graph.nodes)


def find(traced: Traced) -> Iterator[Gated | tuple[fx.Node, str]]:
    """All gated maps of a graph; for products that are like one and cannot be taken, the node and why."""
    for node in traced.graph.nodes:
        if node.target in _MUL and len(node.args) == 2:
            for u, gate in (node.args, node.args[::-1]):
                try:
                    site = _gated(traced, node, u, gate)
                except Refused as refusal:
                    yield node, str(refusal)
                    break
                if site is not None:
                    yield site
                    break


def _gated(traced: Traced, product: fx.Node, u: object, gate: object) -> Gated | None:
    value = traced.values
    if not (isinstance(u, fx.Node) and isinstance(gate, fx.Node) and is_map(value[u]) and is_map(value[product])):
        return None
    if value[u].shape != value[product].shape or not _is_gate(value[gate], value[u]):
        return None
    if value[u].shape[2:].numel() == 1:
        raise Refused(ONE_PIXEL)
    expands: list[fx.Node] = []
    while gate.target in ("expand", "expand_as"):
        expands.insert(0, gate)
        gate = cast(fx.Node, gate.args[0])
    pool = _pool(traced, u, gate)
    if pool is None:
        return None
    to_pool = _between(u, pool, value)
    _only_through(u, pool, gate, value)
    users = [n for n in u.users if holds_tensors(value[n]) and n not in (product, *expands, *to_pool)]
    if users:
        raise Refused(f"the gated map also goes to {users[0].name}")
    source = normed(traced, u, [product, *expands, *to_pool])
    tail = tail_after(traced, product)
    return Gated(u, pool, to_pool, gate, tuple(expands), product, source, tail, conv_after(traced, product))


def _is_gate(s: object, u: Tensor) -> bool:
    """Whether a value has one number a channel, also where it was expanded over the map."""
    if not (isinstance(s, Tensor) and s.ndim == 4 and s.shape[:2] == u.shape[:2]):
        return False
    return bool((s == s[..., :1, :1]).all()) and (s.shape[2:] == (1, 1) or s.shape == u.shape)


def _pool(traced: Traced, u: fx.Node, gate: fx.Node) -> fx.Node | None:
    """The first node on the way from u to the gate whose value is u's global average."""
    value = traced.values
    mean = value[u].mean((2, 3)).flatten()
    after_u = reaching(u, forward=True)
    before_gate = reaching(gate, forward=False)
    for node in traced.graph.nodes:
        if node in after_u and node in before_gate:
            v = value[node]
            per_channel = isinstance(v, Tensor) and v.shape[:2] == value[u].shape[:2] and v.numel() == mean.numel()
            if per_channel and torch.allclose(v.flatten(), mean, rtol=RTOL, atol=1e-12):
                return node
    return None


def reaching(start: fx.Node, *, forward: bool) -> set[fx.Node]:
    """All nodes after a node, or before it, itself included."""
    seen, todo = {start}, [start]
    while todo:
        node = todo.pop()
        for other in node.users if forward else node.all_input_nodes:
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return seen


def _between(u: fx.Node, pool: fx.Node, value: Mapping[fx.Node, object]) -> tuple[fx.Node, ...]:
    """The nodes from u to its pool, in order, u excluded."""
    inside = reaching(u, forward=True) & reaching(pool, forward=False) - {u}
    chain = [n for n in pool.graph.nodes if n in inside and holds_tensors(value[n])]
    for node in chain[:-1]:
        for user in node.users:
            if holds_tensors(value[user]) and user not in chain:
                raise Refused(f"{node.name}, on the way to the pool, also goes to {user.name}")
    return tuple(chain)


def _only_through(u: fx.Node, pool: fx.Node, gate: fx.Node, value: Mapping[fx.Node, object]) -> None:
    """The gate may see the map through the pool, and its sizes."""
    seen, todo = {gate}, [gate]
    while todo:
        node = todo.pop()
        if node is u:
            raise Refused("the gate sees more of the map than its global average")
        if node is pool:
            continue
        for other in node.all_input_nodes:
            if other not in seen and holds_tensors(value[other]):
                seen.add(other)
                todo.append(other)
