"""Walks a model for modules that can be rewritten: the smallest that holds a whole site."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from senet.surgery.kept import Kept
from senet.surgery.sites import Gated, find, may_gate
from senet.surgery.trace import Traced, Untraceable, is_norm, study, trace, traced_inputs, values

__all__ = ["Walk", "path_of", "studied"]


class Walk:
    """The modules of a model, inner ones first, each traced when it is asked for.

    Args:
        model: any module.
        example: what its forward takes; None: images of a size that it takes.
        sums: whether modules with sums and no product are to be traced too.
    """

    def __init__(self, model: nn.Module, example: Sequence[Any] | None, *, sums: bool = False) -> None:
        self.model = model
        self.sums = sums
        self.paths = {module: path for path, module in model.named_modules()}
        self.done: set[nn.Module] = set()
        self.untraceable: dict[nn.Module, str] = {}
        self._traced = Kept()
        double = study(model)
        self._study = {module: double.get_submodule(path) for module, path in self.paths.items()}
        if example is not None:
            example = [studied(value) for value in example]
        inputs = traced_inputs(double, example)
        self.inputs = {module: inputs[twin] for module, twin in self._study.items() if twin in inputs}

    def modules(self) -> Iterator[nn.Module]:
        """Modules that were called with tensors alone, inner ones first, none that lies in one that is done."""
        for module in reversed(list(self.paths)):
            called_with = self.inputs.get(module)
            if called_with and all(isinstance(a, Tensor) for a in called_with) and not self._inside_done(module):
                yield module

    def traced(self, module: nn.Module) -> Traced | None:
        """A module's graph with its values, or None where it has no graph or nothing in it is asked for."""
        if module not in self._traced:
            self._traced[module] = self._trace(module)
        return self._traced[module]

    def mark(self, module: nn.Module) -> None:
        """Notes that a module was rewritten: it stays whole in all graphs from now on."""
        self.done.add(module)
        for other in list(self._traced):
            if other is module or _lies_in(self.paths[module], self.paths[other]):
                del self._traced[other]

    def refused(self) -> Iterator[tuple[str, str]]:
        """Products that look like gated maps and cannot be taken, by path, and why."""
        for module in self.modules():
            traced = self.traced(module)
            for found in find(traced) if traced is not None else ():
                if not isinstance(found, Gated):
                    node, reason = found
                    yield _where(node, self.paths[module]), reason

    def _trace(self, module: nn.Module) -> Traced | None:
        if next(module.children(), None) is None and (is_norm(module) or next(module.parameters(), None) is None):
            return None
        twin = self._study[module]
        try:
            graph = trace(twin, frozenset(self._study[m] for m in self.done))
            if sum(n.op == "placeholder" for n in graph.nodes) != len(self.inputs[module]):
                raise Untraceable("it is called with fewer arguments than its forward takes")
            # Not run for nothing: all values of a network of 512 pixels are many gigabytes.
            if not may_gate(graph) and not (self.sums and any("add" in str(n.target) for n in graph.nodes)):
                return None
            return values(module, graph, self.inputs[module], twin)
        except Untraceable as reason:
            self.untraceable[module] = str(reason)
            return None

    def _inside_done(self, module: nn.Module) -> bool:
        return any(module is other or _lies_in(self.paths[module], self.paths[other]) for other in self.done)


def _lies_in(path: str, other: str) -> bool:
    return other == "" or path.startswith(f"{other}.")


def studied(value: Any) -> Any:
    """What is given to a model's :func:`~senet.surgery.trace.study`: tensors on a CPU, real ones in float64."""
    if not isinstance(value, Tensor):
        return value
    return value.to("cpu", torch.float64 if value.is_floating_point() else value.dtype)


def path_of(site: Gated, prefix: str) -> str:
    """A site's name for people: the path of the module in whose forward the map is averaged."""
    return _where(site.pool if site.pool.meta.get("nn_module_stack") else site.product, prefix)


def _where(node: fx.Node, prefix: str) -> str:
    """The path of the innermost module in whose forward a node is."""
    inside = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    if node.op == "call_module":  # of which the last is what is called
        inside = inside[:-1]
    return ".".join(part for part in (prefix, *inside[-1:]) if part) or "the model"
