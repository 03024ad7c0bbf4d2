"""The graphs of a model, outer modules first, with what places for blocks are told by."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from senet.blocks.stages import Recalibrate
from senet.surgery.attaching.maps import Maps
from senet.surgery.chains import holds_tensors, is_map
from senet.surgery.sites import reaching
from senet.surgery.trace import Traced, Untraceable, trace, values

__all__ = ["Part", "parts"]

MULTIPLICATIONS = (operator.mul, operator.imul, torch.mul, "mul", "mul_")


class Part:
    """A part of a model that is one graph, and what is asked of its nodes.

    Args:
        prefix: its path.
        traced: its graph, with the values of a run.
        inside: whether it lies in what is a single node of another part.

    Attributes:
        nodes: in the order in which they run.
        values: of the nodes.
        modules: by the names that nodes call them by.
        computed: nodes that depend on the input.
        gates: products of a map and what is computed from it, and the nodes of that computation.
    """

    def __init__(self, prefix: str, traced: Traced, inside: bool) -> None:
        self.prefix, self.inside = prefix, inside
        self.values = traced.values
        self.nodes = list(traced.graph.nodes)
        self.modules = dict(traced.double.named_modules())
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
        return [user for user in node.users if user.op == "output" or holds_tensors(self.values[user])]

    def identity_of(self, node: fx.Node) -> fx.Node | None:
        """What a node gives back as it is, in evaluation."""
        sources = [n for n in node.all_input_nodes if isinstance(self.values[n], Tensor)]
        if len(sources) != 1 or not isinstance(self.values[node], Tensor):
            return None
        return sources[0] if torch.equal(self.values[sources[0]], self.values[node]) else None

    def original(self, node: fx.Node) -> fx.Node:
        """The first of the nodes of which each gives back the one before as it is, or multiplied by constants."""
        while (source := self.identity_of(node) or self.scaled(node)) is not None:
            node = source
        return node

    def scaled(self, node: fx.Node) -> fx.Node | None:
        """What a node multiplies by numbers that do not depend on the input."""
        if node.target not in MULTIPLICATIONS or len(node.args) != 2:
            return None
        sources = [arg for arg in node.args if isinstance(arg, fx.Node) and arg in self.computed]
        return sources[0] if len(sources) == 1 else None

    def layers(self, node: fx.Node) -> int:
        """How many convolutions and linear layers a node is."""
        module = self.called(node)
        if module is None:
            return int(node.target in (F.conv2d, F.linear))
        return sum(isinstance(m, nn.modules.conv._ConvNd | nn.Linear) for m in module.modules())


def parts(maps: Maps) -> Iterator[Part]:
    """The graphs that together hold all of a model that fits into graphs, outer modules first.

    A module that fits into none is a single node in the graph around it, and then its parts have graphs of their own.
    """
    yield from _parts(maps, "", maps.double, set(), inside=False)


def _parts(maps: Maps, path: str, module: nn.Module, seen: set[nn.Module], *, inside: bool) -> Iterator[Part]:
    seen.add(module)
    part = _part(maps, path, module, inside)
    below = {f"{path}.{name}".removeprefix("."): child for name, child in module.named_children()}
    if part is not None:
        yield part
        inside = True
        nodes = {part.path(str(node.target)): part.called(node) for node in part.nodes}
        whole = {name: called for name, called in nodes.items() if called is not None}
        below = {f"{name}.{last}": m for name, called in whole.items() for last, m in called.named_children()}
    for name, child in below.items():
        if child not in seen:
            yield from _parts(maps, name, child, seen, inside=inside)


def _part(maps: Maps, path: str, module: nn.Module, inside: bool) -> Part | None:
    """A module as one graph, or None where it is none."""
    inputs = maps.inputs.get(module)
    if not inputs:
        return None
    try:
        graph = _graph(maps, module)
        if sum(node.op == "placeholder" for node in graph.nodes) != len(inputs):
            return None  # an argument was left at its default, which the graph does not know
        return Part(path, values(module, graph, inputs, module), inside)
    except Untraceable:
        return None


def _graph(maps: Maps, module: nn.Module) -> fx.Graph:
    """A module's graph, in which those below it that fit into none are single nodes."""
    try:
        return trace(module, modes=(False,))
    except Untraceable:
        whole: set[nn.Module] = set()
        for inner in reversed(list(module.modules())[1:]):
            if inner in maps.inputs and next(inner.children(), None) is not None and not isinstance(inner, Recalibrate):
                try:
                    trace(inner, frozenset(whole), modes=(False,))
                except Untraceable:
                    whole.add(inner)
        return trace(module, frozenset(whole), modes=(False,))


def _gates(part: Part) -> Mapping[fx.Node, set[fx.Node]]:
    """Products of a map and what is computed from it by way of something smaller, and the nodes of that computation."""
    gates = {}
    for node in part.nodes:
        if node.target not in MULTIPLICATIONS or len(node.args) != 2 or not is_map(part.values[node]):
            continue
        for u, gate in (node.args, node.args[::-1]):
            if not isinstance(u, fx.Node) or not isinstance(gate, fx.Node) or not is_map(part.values[u]):
                continue
            between = reaching(u, forward=True) & reaching(gate, forward=False) - {u}
            sizes = [part.values[n].numel() for n in between if isinstance(part.values[n], Tensor)]
            if sizes and min(sizes) < part.values[u].numel():
                gates[node] = between
    return gates
