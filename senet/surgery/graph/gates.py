"""Finds squeeze-and-excitation in a graph by what is computed, not by what it is called.

A gated map is a product of a map u (N, C, ...) and a gate that is constant over each of its channels and depends on u
through its global average alone. Whether a value is an average, a norm's output or a known activation of another is
asked of the values themselves, so every way to write it is recognised; and it is believed only where it holds at other
sizes and batches, and for large values, too::

        x
        |                                    source.x
      [norm]                                 source.norm
        |
      [act]                                  source.act
        |
        u ---------+                         u
        |          |
        |       [pool]                       to_pool, pool      mean over positions, (N, C)
        |          |
        |     [fc, act, fc, sigmoid]
        |          |                         gate               (N, C) numbers
        |       [expand]                     expands
        |          |
        +---[*]----+                         product
             |
     +-------+--------+
     |                |
  [drop]          [1x1 conv]                 tail.drops         or  to_conv
     |
    [+]--- shortcut                          tail.shortcut
     |
   [relu]                                    tail.relu
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, fx

from senet.surgery.graph.neighbours import Normed, Tail, conv_after, normed, positions, tail_after
from senet.surgery.graph.ops import (
    casts,
    holds_tensors,
    is_map,
    is_per_channel,
    is_product,
    is_sum,
    operands,
    reaching,
    reduces,
    tensor_inputs,
    users_of_tensor,
    writes_into_input,
)
from senet.surgery.graph.pools import Pool, is_average, is_square, not_global
from senet.surgery.graph.walk import Reading

__all__ = ["ONE_PIXEL", "Found", "Gated", "Key", "Refusal", "find"]

ONE_PIXEL = "the map has one pixel in the example, where anything is its average; give a larger example"

Key = tuple[str, int]  # the module in whose forward a product is, and which of the products there


class _Refused(Exception):  # noqa: N818 - it is no error of the user's
    """A product that looks like a gated map and is none that surgery can take over; the message says why."""


@dataclass(frozen=True, eq=False)
class Gated:
    """A map u times a gate computed from its global average; the file's head draws it.

    Attributes:
        key: names the product, the same in all graphs that show it.
        place: path of the module in whose forward the map is averaged.
        u: the map.
        pool: the node that gives its global average, of N * C numbers.
        to_pool: nodes between u and the pool, the pool included.
        dtype: the dtype that the average is taken in by name, or None: that of the map.
        gate: what the map is multiplied by, before it is expanded.
        expands: nodes between the gate and the product.
        product: the product.
        source: where u comes from, if from a norm.
        tail: what follows.
        to_conv: nodes after the product up to the convolution that alone takes it, if one does.
    """

    key: Key
    place: str
    u: fx.Node
    pool: fx.Node
    to_pool: tuple[fx.Node, ...]
    dtype: torch.dtype | None
    gate: fx.Node
    expands: tuple[fx.Node, ...]
    product: fx.Node
    source: Normed | None
    tail: Tail = field(default_factory=Tail)
    to_conv: tuple[fx.Node, ...] = ()


@dataclass(frozen=True, eq=False)
class Refusal:
    """A product that looks like a gated map and is left alone.

    Attributes:
        key: names the product, the same in all graphs that show it.
        place: path of the module in whose forward it is.
        reason: why.
    """

    key: Key
    place: str
    reason: str


@dataclass(frozen=True)
class Found:
    """The gated maps of a graph, and the products that are like one and cannot be taken."""

    gated: list[Gated]
    refused: list[Refusal]


def find(reading: Reading) -> Found:
    """Returns all gated maps of a graph, and what was refused, in the order of the graph."""
    if reading.found is None:
        reading.found = _find(reading)
    return reading.found


def _find(reading: Reading) -> Found:
    found = Found([], [])
    counted: Counter[str] = Counter()
    claimed: set[fx.Node] = set()
    for node in reading.graph.nodes:
        pair = operands(node) if is_product(node) else None
        for u, gate in (pair, pair[::-1]) if pair else ():
            place = reading.place(node)
            key = (place, counted[place])
            try:
                site = _gated(reading, key, node, u, gate)
            except _Refused as refusal:
                found.refused.append(Refusal(key, place, str(refusal)))
                counted[place] += 1
                break
            if site is not None:
                found.gated.append(_claim(site, claimed))
                counted[place] += 1
                break
    _check_elsewhere(reading, found)
    return found


def _claim(site: Gated, claimed: set[fx.Node]) -> Gated:
    """Gives a sum of two gated maps to the first of them: the other ends before it."""
    if any(n in claimed for n in site.tail.nodes):
        site = replace(site, tail=_shortened(site.tail, claimed))
    claimed.update(site.tail.nodes)
    return site


def _shortened(tail: Tail, claimed: set[fx.Node]) -> Tail:
    nodes = []
    for node in tail.nodes:
        if node in claimed:
            break
        nodes.append(node)
    while nodes and nodes[-1] not in tail.drops:  # an identity at the end is nobody's
        nodes.pop()
    return Tail(tuple(nodes), tuple(n for n in tail.drops if n in nodes), None, relu=False)


def _gated(reading: Reading, key: Key, product: fx.Node, u: object, gate: object) -> Gated | None:
    value = reading.values
    if not (isinstance(u, fx.Node) and isinstance(gate, fx.Node) and is_map(value[u]) and is_map(value[product])):
        return None
    if value[u].shape != value[product].shape or not is_per_channel(value[gate], value[u]):
        return None
    if value[u].shape[2:].numel() == 1:
        modules = reading.modules
        if any(reduces(n, modules) for n in reaching(u, forward=True) & reaching(gate, forward=False)):
            raise _Refused(ONE_PIXEL)
        return None
    expands: list[fx.Node] = []
    while (inner := _unexpanded(value, gate)) is not None:
        expands.insert(0, gate)
        gate = inner
    pool = _pool(reading, u, gate)
    if pool is None:
        return None
    to_pool = _between(reading, u, pool)
    _only_through(reading, u, pool, gate)
    others = [n for n in users_of_tensor(u, value) if n not in (product, *expands, *to_pool)]
    if others:
        raise _Refused(f"the gated map also goes to {_described(reading, others[0])}")
    source = normed(reading, u, [product, *expands, *to_pool])
    dtype = next((d for n in reversed(to_pool) if (d := casts(n)) is not None), None)
    place = reading.place(pool if pool.meta.get("nn_module_stack") else product)
    tail = tail_after(reading, product)
    if any(writes_into_input(node) for node in tail.nodes):
        raise _Refused("it adds the gated map to what it is given, in place")
    return Gated(
        key, place, u, pool, to_pool, dtype, gate, tuple(expands), product, source, tail, conv_after(reading, product)
    )


def _unexpanded(value: dict[fx.Node, object], gate: fx.Node) -> fx.Node | None:
    """The node that a gate expands over the map, or reshapes for it, if that is all it does."""
    wide_gate = cast(Tensor, value[gate])
    if wide_gate.shape[2:].numel() == 1:
        return None
    numbers = wide_gate.flatten(2)[..., 0].flatten()
    for node in tensor_inputs(gate, value):
        v = cast(Tensor, value[node])
        if v.numel() == numbers.numel() and torch.equal(v.flatten(), numbers):
            return node
        if v.shape == wide_gate.shape and torch.equal(v, wide_gate):
            return node
    return None


def _pool(reading: Reading, u: fx.Node, gate: fx.Node) -> fx.Node | None:
    """The first node on the way from u to the gate whose value is u's global average."""
    value = reading.values
    mean = value[u].mean(positions(value[u])).flatten()
    after_u, before_gate = reaching(u, forward=True), reaching(gate, forward=False)
    for node in reading.graph.nodes:
        if node in after_u and node in before_gate and is_average(value[node], mean, value[u].shape):
            return node
    return None


def _between(reading: Reading, u: fx.Node, pool: fx.Node) -> tuple[fx.Node, ...]:
    """The nodes from u to its pool, in order, u excluded."""
    value = reading.values
    inside = reaching(u, forward=True) & reaching(pool, forward=False) - {u}
    chain = [n for n in reading.graph.nodes if n in inside and holds_tensors(value[n])]
    for node in chain[:-1]:
        for user in users_of_tensor(node, value):
            if user not in chain:
                raise _Refused(
                    f"{_described(reading, node)}, on the way to the pool, also goes to {_described(reading, user)}"
                )
    return tuple(chain)


def _only_through(reading: Reading, u: fx.Node, pool: fx.Node, gate: fx.Node) -> None:
    """The gate may see the map through the pool, and its sizes."""
    value = reading.values
    seen, todo = {gate}, [gate]
    while todo:
        node = todo.pop()
        if node is u:
            raise _Refused("the gate sees more of the map than its global average")
        if node is pool:
            continue
        for other in node.all_input_nodes:
            if other not in seen and holds_tensors(value[other]):
                seen.add(other)
                todo.append(other)


def _described(reading: Reading, node: fx.Node) -> str:
    """A node in words that stay the same in every graph that shows it."""
    if node.op == "call_module":
        return type(reading.module.get_submodule(str(node.target))).__name__
    if node.op == "output":
        return "what is returned"
    if is_sum(node):
        return "a sum"
    if is_product(node):
        return "a product"
    name = getattr(node.target, "__name__", str(node.target))
    return {"getitem": "an index"}.get(name, name)


def _check_elsewhere(reading: Reading, found: Found) -> None:
    """Refuses sites whose pool is an average at the example's size or for small values alone."""
    for site in list(found.gated):
        pool = Pool(site.u, site.pool, site.to_pool)
        reason = not_global(reading, pool, square=False)
        if reason is not None and is_square(reading, pool) and not_global(reading, pool, square=True) is None:
            reading.square, reason = True, None
        if reason is not None:
            found.gated.remove(site)
            found.refused.append(Refusal(site.key, site.place, reason))
    found.refused.sort(key=lambda refusal: refusal.key[1])
