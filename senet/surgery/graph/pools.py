"""Pools that are a global average at every size, batch and magnitude, told from those that are one in the example.

A pool by a fixed kernel, of several cells, padded or strided is the average at some sizes; so is a clamped one of small
values. One that is the average of every square map, ``avg_pool2d(u, u.size(2))``, is global for square inputs. Where a
module can run at no other size, its operators must be ones that are global at all.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx

from senet.surgery.graph.calls import Call
from senet.surgery.graph.neighbours import RTOL, positions, wide
from senet.surgery.graph.ops import is_map, reaching, reduces, tensor_inputs
from senet.surgery.graph.run import Wide, node_values, random_like
from senet.surgery.graph.sizes import elsewhere, other_sizes
from senet.surgery.graph.trace import trace
from senet.surgery.graph.walk import Reading

__all__ = ["Pool", "is_average", "is_square", "not_global"]


@dataclass(frozen=True)
class Pool:
    """A map's average in a graph.

    Attributes:
        u: the map.
        node: gives the average.
        nodes: from the map to the average, which is the last.
    """

    u: fx.Node
    node: fx.Node
    nodes: tuple[fx.Node, ...]


def is_average(v: object, mean: Tensor, shape: torch.Size) -> bool:
    """Whether a value is the average of a map of a shape: one number for each channel of each image."""
    if not (isinstance(v, Tensor) and v.is_floating_point() and v.shape[:2] == shape[:2] and v.numel() == mean.numel()):
        return False
    return torch.allclose(v.flatten(), mean, rtol=RTOL, atol=1e-12)


def is_square(reading: Reading, pool: Pool) -> bool:
    """Whether a map, and all maps that the module is called with, are square in the example."""
    maps = [t for t in reading.shapes if is_map(t) and t.ndim > 3]
    return bool(maps) and all(len(set(t.shape[2:])) == 1 for t in (*maps, reading.values[pool.u]))


def not_global(reading: Reading, pool: Pool, *, square: bool) -> str | None:
    """Returns the reason why the pool of a site is no global average, or None.

    Args:
        reading: the module.
        pool: in it.
        square: whether square maps alone are looked at; then the module must make the map square of every square input.
    """
    u = reading.values[pool.u]
    if any(_cuts(node, reading.values, u) or _cuts_inside(reading, node, u) for node in pool.nodes):
        return "its pool is no average of all positions of larger maps: it takes a part of them by numbers"
    alone = _pool_alone(reading, pool)
    if alone is not None:
        for size in [list(u.shape[2:]), *other_sizes(u.shape[2:], square=square)]:
            other = random_like(u.new_empty((u.shape[0] + 1, u.shape[1], *size), device="meta"))
            for x in (other, *wide(other).chunk(2)):
                try:
                    same = is_average(alone(x), x.mean(positions(x)).flatten(), x.shape)
                except Exception:  # a kernel larger than the map, say
                    same = False
                if not same:
                    return f"its pool is no average of all positions of {_by(size)}, or of large values"
        if not square:
            return None
    checked = 0
    for inputs in elsewhere(reading, square=square):
        try:
            seen = node_values(reading.twin, reading.graph, inputs, keep={pool.u, pool.node})
        except Exception:  # noqa: S112 - the module itself does not take this size, so there is nothing to be wrong about
            continue
        other, pooled = seen[pool.u], seen[pool.node]
        checked += 1
        if not is_average(pooled, other.mean(positions(other)).flatten(), other.shape):
            return f"its pool is no average of all positions of {_by(other.shape[2:])}"
    if not checked and not all(_is_global(reading, node) for node in pool.nodes):
        return "its pool cannot be told to be global, as the module around it takes one size only"
    return None


_CUTS = {"narrow": 3, "narrow_copy": 3, "index_select": 2, "gather": 2, "select": 2, "take": 1, "split": 1}


def _cuts(node: fx.Node, values: Mapping[fx.Node, object], u: Tensor) -> bool:
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


def _cuts_inside(reading: Reading, node: fx.Node, u: Tensor) -> bool:
    """Whether a module that stays whole takes a part of a tensor by numbers, or nobody can tell."""
    module = reading.called(node)
    if module is None or type(module).__module__.startswith(("torch.nn.", "senet.")):
        return False
    inputs = [reading.values[n] for n in tensor_inputs(node, reading.values)]
    call, tensors = Call.of(inputs, {})
    try:
        graph, _ = trace(module, call, training=False, shapes=[t.to("meta") for t in tensors])
        values = node_values(module, graph, inputs)
    except Exception:  # whatever a forward of somebody's own does
        return True
    return any(_cuts(inner, values, u) for inner in graph.nodes)


def _is_bounded(index: object) -> bool:
    """Whether an index is a number, or a slice that a number ends."""
    if isinstance(index, slice):
        start, stop = index.start, index.stop
        return (type(start) is int and start != 0) or (type(stop) is int and stop < 2**31)
    return isinstance(index, int)


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


def _pool_alone(reading: Reading, pool: Pool) -> Callable[[Tensor], Tensor] | None:
    """The nodes from a map to its average as a function of the map alone; None where they ask others."""
    inside = reaching(pool.u, forward=True) & reaching(pool.node, forward=False) - {pool.u}
    nodes = [n for n in reading.graph.nodes if n in inside]
    if any(a not in inside and a is not pool.u for n in nodes for a in n.all_input_nodes):
        return None
    interpreter = fx.Interpreter(reading.twin, graph=reading.graph)

    def run(u: Tensor) -> Tensor:
        known: dict[fx.Node, Any] = {pool.u: u}
        with torch.no_grad(), Wide():
            for node in nodes:
                args, kwargs = (fx.node.map_arg(a, known.__getitem__) for a in (node.args, node.kwargs))
                known[node] = getattr(interpreter, node.op)(node.target, args, kwargs)
        return known[pool.node]

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
