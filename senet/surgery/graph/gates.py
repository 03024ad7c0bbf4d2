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

import operator
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, fx

from senet.surgery.graph.neighbours import RTOL, Normed, Tail, conv_after, normed, positions, tail_after, wide
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
)
from senet.surgery.graph.run import Wide, node_values, random_like
from senet.surgery.graph.sizes import elsewhere, other_sizes
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
        if node in after_u and node in before_gate and _is_average(value[node], mean, value[u].shape):
            return node
    return None


def _is_average(v: object, mean: Tensor, shape: torch.Size) -> bool:
    if not (isinstance(v, Tensor) and v.is_floating_point() and v.shape[:2] == shape[:2] and v.numel() == mean.numel()):
        return False
    return torch.allclose(v.flatten(), mean, rtol=RTOL, atol=1e-12)


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


# Beyond one example.


def _check_elsewhere(reading: Reading, found: Found) -> None:
    """Refuses pools that are an average at the example's size or for small values alone.

    A pool by a fixed kernel, of several cells, padded or strided is the average at some sizes; so is a clamped one of
    small values. One that is the average of every square map, ``avg_pool2d(u, u.size(2))``, is taken for square inputs.
    Where a module can run at no other size, its operators must be ones that are global at all.
    """
    for site in list(found.gated):
        reason = _reason_elsewhere(reading, site, square=False)
        if reason is not None and _is_square(reading, site) and _reason_elsewhere(reading, site, square=True) is None:
            reading.square, reason = True, None
        if reason is not None:
            found.gated.remove(site)
            found.refused.append(Refusal(site.key, site.place, reason))
    found.refused.sort(key=lambda refusal: refusal.key[1])


def _is_square(reading: Reading, site: Gated) -> bool:
    """Whether a map, and all maps that the module is called with, are square in the example."""
    maps = [t for t in reading.shapes if is_map(t) and t.ndim > 3]
    return bool(maps) and all(len(set(t.shape[2:])) == 1 for t in (*maps, reading.values[site.u]))


def _reason_elsewhere(reading: Reading, site: Gated, *, square: bool) -> str | None:
    """Why the pool of a site is no global average, or None.

    Args:
        reading: the module.
        site: in it.
        square: whether square maps alone are looked at; then the module must make the map square of every square input.
    """
    u = reading.values[site.u]
    if any(_cuts(node, reading.values, u) for node in site.to_pool):
        return "its pool is no average of all positions of larger maps: it takes a part of them by numbers"
    pool = _pool_alone(reading, site)
    if pool is not None:
        for size in [list(u.shape[2:]), *other_sizes(u.shape[2:], square=square)]:
            other = random_like(u.new_empty((u.shape[0] + 1, u.shape[1], *size), device="meta"))
            for x in (other, *wide(other).chunk(2)):
                try:
                    same = _is_average(pool(x), x.mean(positions(x)).flatten(), x.shape)
                except Exception:  # a kernel larger than the map, say
                    same = False
                if not same:
                    return f"its pool is no average of all positions of {_by(size)}, or of large values"
        if not square:
            return None
    checked = 0
    for inputs in elsewhere(reading, square=square):
        try:
            seen = node_values(reading.twin, reading.graph, inputs, keep={site.u, site.pool})
        except Exception:  # noqa: S112 - the module itself does not take this size, so there is nothing to be wrong about
            continue
        other, pooled = seen[site.u], seen[site.pool]
        checked += 1
        if not _is_average(pooled, other.mean(positions(other)).flatten(), other.shape):
            return f"its pool is no average of all positions of {_by(other.shape[2:])}"
    if not checked and not all(_is_global(reading, node) for node in site.to_pool):
        return "its pool cannot be told to be global, as the module around it takes one size only"
    return None


_CUTS = {"narrow": 3, "narrow_copy": 3, "index_select": 2, "gather": 2, "select": 2, "take": 1, "split": 1}


def _cuts(node: fx.Node, values: dict[fx.Node, object], u: Tensor) -> bool:
    """Whether an operator takes a part of a tensor by numbers, other than channels, of which there are as many."""
    source = next(iter(node.all_input_nodes), None)
    given = values.get(source) if source is not None else None
    if node.op not in ("call_function", "call_method") or not isinstance(given, Tensor):
        return False
    of_channels = given.shape[:2] == u.shape[:2]
    if node.target is operator.getitem:
        index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
        if ... in index:
            at = index.index(...)
            rest = index[at + 1 :]
            middle = given.ndim - sum(i is not None for i in (*index[:at], *rest))
            index = (*index[:at], *[slice(None)] * middle, *rest)
        index = tuple(i for i in index if i is not None)
        return any(_is_bounded(i) and not (axis == 1 and of_channels) for axis, i in enumerate(index))
    name = getattr(node.target, "__name__", str(node.target))
    if name not in _CUTS:
        return False
    amount = node.args[_CUTS[name]] if len(node.args) > _CUTS[name] else None
    axis = node.kwargs.get("dim", node.args[2:3] if name == "split" else node.args[1:2])
    if of_channels and axis in (1, (1,)):
        return False
    return name in ("index_select", "gather", "take") or not isinstance(amount, fx.Node)


def _is_bounded(index: object) -> bool:
    """Whether an index is a number, or a slice that a number ends."""
    if isinstance(index, slice):
        start, stop = index.start, index.stop
        return (type(start) is int and start != 0) or (type(stop) is int and stop < 2**31)
    return isinstance(index, int)


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


def _pool_alone(reading: Reading, site: Gated) -> Callable[[Tensor], Tensor] | None:
    """The nodes from a map to its average as a function of the map alone; None where they ask others."""
    inside = reaching(site.u, forward=True) & reaching(site.pool, forward=False) - {site.u}
    nodes = [n for n in reading.graph.nodes if n in inside]
    if any(a not in inside and a is not site.u for n in nodes for a in n.all_input_nodes):
        return None
    interpreter = fx.Interpreter(reading.twin, graph=reading.graph)

    def run(u: Tensor) -> Tensor:
        known: dict[fx.Node, Any] = {site.u: u}
        with torch.no_grad(), Wide():
            for node in nodes:
                args, kwargs = (fx.node.map_arg(a, known.__getitem__) for a in (node.args, node.kwargs))
                known[node] = getattr(interpreter, node.op)(node.target, args, kwargs)
        return known[site.pool]

    return run


_SAFE = {"view", "reshape", "flatten", "float", "double", "to", "squeeze", "unsqueeze", "contiguous", "type", "mean"}
_SAFE_FUNCTIONS = {torch.flatten, torch.mean, torch.squeeze, torch.unsqueeze, torch.reshape}


def _is_global(reading: Reading, node: fx.Node) -> bool:
    """Whether an operator on the way to a pool takes averages of all positions at any size, or none."""
    called = reading.called(node)
    if called is not None:
        size = getattr(called, "output_size", None)
        return (
            reduces(node, reading.modules)
            and (size in (None, 1) or set(cast(tuple[int], size)) == {1})
            and not (hasattr(called, "kernel_size"))
        )
    if reduces(node, {}) and getattr(node.target, "__name__", "").startswith("adaptive"):
        return node.args[1] in (1, (1, 1), [1, 1], (1, 1, 1), [1, 1, 1])
    return node.target in _SAFE or node.target in _SAFE_FUNCTIONS
