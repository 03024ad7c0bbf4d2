"""The graphs of a model, outer modules first, with what places for blocks are told by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from senet.surgery.attaching.maps import Maps
from senet.surgery.graph.ops import is_map, is_product, operands, reaching, tensor_inputs, users_of_tensor
from senet.surgery.graph.walk import Reading

__all__ = ["Part", "parts"]


class Part:
    """A part of a model that is one graph, and what is asked of its nodes.

    Args:
        prefix: its path.
        reading: its graph, with the values of a run.
        inside: whether it lies in what is a single node of another part.

    Attributes:
        nodes: in the order in which they run.
        values: of the nodes.
        modules: by the names that nodes call them by.
        computed: nodes that depend on the input.
        gates: products of a map and what is computed from it, and the nodes of that computation.
    """

    def __init__(self, prefix: str, reading: Reading, inside: bool) -> None:
        self.prefix, self.inside = prefix, inside
        self.values = reading.values
        self.nodes = list(reading.graph.nodes)
        self.modules = dict(reading.twin.named_modules())
        inputs = [node for node in self.nodes if node.op == "placeholder"]
        self.computed = set().union(*(reaching(node, forward=True) for node in inputs))
        self.gates = _gates(self)

    def path(self, name: str) -> str:
        """A path in the part, as one in the model."""
        return ".".join(p for p in (self.prefix, name) if p)

    def output_of(self, node: fx.Node) -> list[str]:
        """The modules whose output a node is, from the innermost, which computed it, outwards."""
        names: list[str] = node.meta.get("output_of", [])
        paths = [self.path(name) for name in names if f"{names[0]}.".startswith(f"{name}.")]
        is_all = self.prefix and self.nodes[-1].args[0] is node
        return [*paths, self.prefix] if is_all else paths

    def where(self, node: fx.Node) -> str:
        """The innermost module that a node is computed in."""
        return self.path(str(next(reversed(node.meta.get("nn_module_stack") or {}), ""))) or "the model"

    def called(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls."""
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def takers(self, node: fx.Node) -> list[fx.Node]:
        """Nodes that compute something from a node's tensor, or return it."""
        return users_of_tensor(node, self.values)

    def identity_of(self, node: fx.Node) -> fx.Node | None:
        """The node that another gives back as it is, in evaluation."""
        sources = tensor_inputs(node, self.values)
        if len(sources) != 1 or not isinstance(self.values[node], Tensor):
            return None
        return sources[0] if torch.equal(self.values[sources[0]], self.values[node]) else None

    def original(self, node: fx.Node) -> fx.Node:
        """The first of the nodes of which each gives back the one before as it is, or multiplied by constants."""
        while (source := self.identity_of(node) or self.scaled(node)) is not None:
            node = source
        return node

    def scaled(self, node: fx.Node) -> fx.Node | None:
        """The node that another multiplies by numbers that do not depend on the input."""
        if not is_product(node):
            return None
        sources = [arg for arg in operands(node) or () if isinstance(arg, fx.Node) and arg in self.computed]
        return sources[0] if len(sources) == 1 else None

    def layers(self, node: fx.Node) -> int:
        """Counts the convolutions and linear layers of a node."""
        module = self.called(node)
        if module is None:
            return int(node.target in (F.conv2d, F.linear))
        return sum(isinstance(m, nn.modules.conv._ConvNd | nn.Linear) for m in module.modules())


def parts(maps: Maps) -> Iterator[Part]:
    """The graphs that together hold all of a model that fits into graphs, outer modules first.

    A module that fits into none is a single node in the graph around it, and then its parts have graphs of their own.
    """
    yield from _parts(maps, maps.walk.model, set(), inside=False)


def _parts(maps: Maps, module: nn.Module, seen: set[nn.Module], *, inside: bool) -> Iterator[Part]:
    seen.add(module)
    walk, below = maps.walk, list(module.children())
    readings = walk.read(module) if walk.observed.calls.get(walk.twins[module]) else []
    if readings:
        part = Part(walk.paths[module], readings[0], inside)
        yield part
        inside = True
        whole = [str(node.target) for node in part.nodes if node.op == "call_module"]
        below = [child for name in whole for child in module.get_submodule(name).children()]
    for child in below:
        if child not in seen:
            yield from _parts(maps, child, seen, inside=inside)


def _gates(part: Part) -> Mapping[fx.Node, set[fx.Node]]:
    """Products of a map and what is computed from it by way of something smaller, and the nodes of that computation."""
    gates = {}
    for node in part.nodes:
        pair = operands(node) if is_product(node) and is_map(part.values[node]) else None
        for u, gate in (pair, pair[::-1]) if pair else ():
            if not isinstance(u, fx.Node) or not isinstance(gate, fx.Node) or not is_map(part.values[u]):
                continue
            between = reaching(u, forward=True) & reaching(gate, forward=False) - {u}
            sizes = [part.values[n].numel() for n in between if isinstance(part.values[n], Tensor)]
            if sizes and min(sizes) < part.values[u].numel():
                gates[node] = between
    return gates
