"""The modules of a model for inference: which can be read as a graph, how often each is called, and where it lies."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from senet.blocks.stages import AvgSqueeze, Recalibrate, excited
from senet.surgery.kept import Kept
from senet.surgery.sites import may_gate
from senet.surgery.trace import Traced, Untraceable, study, trace, traced_inputs, values

__all__ = ["Hosts"]


class Hosts:
    """The modules of a model in evaluation, inner ones first, as graphs.

    A module whose forward is no graph stays whole in the graphs of those around it.

    Args:
        model: in evaluation mode; it runs once or twice.
        example: what its forward takes; None: images of a size that it takes.
    """

    def __init__(self, model: nn.Module, example: Sequence[Any] | None) -> None:
        self.model = model
        self.inputs = traced_inputs(model, example)
        self.calls = _calls(model, self.inputs[model])
        self.paths: dict[nn.Module, list[str]] = defaultdict(list)
        for path, module in model.named_modules(remove_duplicate=False):
            self.paths[module].append(path)
        self.untraceable: dict[nn.Module, str] = {}
        self._done: set[nn.Module] = set()
        self._traced = Kept()
        self._study: nn.Module | None = None

    def modules(self) -> Iterator[nn.Module]:
        """Modules with parts that were called with tensors alone, inner ones first, none in one that was replaced."""
        for module in reversed(list(self.paths)):
            args, has_parts = self.inputs.get(module), next(module.children(), None) is not None
            if has_parts and args and all(isinstance(a, Tensor) for a in args) and not self._inside_done(module):
                yield module

    def graph(self, module: nn.Module) -> fx.Graph | None:
        """What a module computes in evaluation, blocks of ours opened and identities gone; None if it is no graph."""
        if module in self.untraceable:
            return None
        leaves = self._done | set(self.untraceable)
        try:
            graph = trace(module, frozenset(leaves - {module}), modes=(False,))
            _open_excitations(module, graph)
        except Untraceable as reason:
            if not isinstance(module, Recalibrate):  # a block of ours is read as part of what is around it
                self.untraceable[module] = str(reason)
            return None
        if sum(node.op == "placeholder" for node in graph.nodes) != len(self.inputs[module]):
            return None  # an argument was left at its default, which the graph does not know
        _drop_identities(module, graph)
        return graph

    def traced(self, module: nn.Module) -> Traced | None:
        """A module's graph with its values, or None where it is no graph or multiplies no maps.

        All share one copy in float64: from the first on, the model may be changed by :meth:`replace` alone.
        """
        if module not in self._traced:
            self._traced[module] = self._trace(module)
        return self._traced[module]

    def forget(self, module: nn.Module) -> None:
        """Has a module, and those that it lies in, traced again when they are asked for."""
        for other in list(self._traced):
            if any(module is part for part in other.modules()):
                del self._traced[other]

    def _trace(self, module: nn.Module) -> Traced | None:
        graph = self.graph(module)
        if graph is None or not may_gate(graph):
            return None
        try:
            if self._study is None:
                self._study = study(self.model)
            twin = self._study.get_submodule(self.paths[module][0])
            return values(module, graph, self.inputs[module], twin)
        except Exception as error:  # whatever a forward does that knows one dtype only
            first = (str(error).strip().splitlines() or [""])[0]
            self.untraceable[module] = f"its graph does not run in float64 ({type(error).__name__}: {first})"
            return None

    def replace(self, module: nn.Module, new: nn.Module, twin: nn.Module) -> None:
        """Puts a module in the place, or places, of another, its copy in float64 too; the model itself may be it."""
        self.forget(module)
        self._done.add(new)
        for path in self.paths[module]:
            self.paths[new].append(path)
            self.model = _put(self.model, path, new)
            if self._study is not None:
                self._study = _put(self._study, path, twin)

    def _inside_done(self, module: nn.Module) -> bool:
        done = [path for new in self._done for path in self.paths[new]]
        return any(path == d or path.startswith(f"{d}.") or not d for path in self.paths[module] for d in done)


def _put(root: nn.Module, path: str, new: nn.Module) -> nn.Module:
    """Puts a module at a path below another, or in its place; returns what is the root then."""
    if not path:
        return new
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, new)
    return root


def _calls(model: nn.Module, inputs: Sequence[Any]) -> Counter[nn.Module]:
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    calls: Counter[nn.Module] = Counter()
    hooks = [m.register_forward_pre_hook(lambda module, _: calls.update([module])) for m in model.modules()]
    try:
        with torch.no_grad():
            model(*(torch.zeros_like(a, device=device) if isinstance(a, Tensor) else a for a in inputs))
    finally:
        for hook in hooks:
            hook.remove()
    return calls


class _Excitation(nn.Module):
    """What :func:`~senet.blocks.stages.excited` computes where nothing is cast."""

    def __init__(self, block: Recalibrate) -> None:
        super().__init__()
        self.block = block

    def forward(self, z: Tensor) -> Tensor:
        return self.block.gate(self.block.excite(z))


def _open_excitations(module: nn.Module, graph: fx.Graph) -> None:
    """Replaces blocks' excitations of a global average by their layers; all in the map's dtype, as weights are."""
    for node in list(graph.nodes):
        if node.target is not excited:
            continue
        block, pool = node.args
        if pool.op != "call_module" or not isinstance(module.get_submodule(pool.target), AvgSqueeze):
            continue
        inner = trace(_Excitation(module.get_submodule(block.target)), modes=(False,))  # type: ignore[arg-type]
        for part in inner.nodes:
            if part.op in ("call_module", "get_attr"):
                part.target = block.target + str(part.target).removeprefix("block")
        with graph.inserting_after(pool):
            mean = graph.call_method("mean", (pool.args[0], (2, 3)), {"keepdim": True})
        z = next(n for n in inner.nodes if n.op == "placeholder")
        with graph.inserting_before(node):
            node.replace_all_uses_with(graph.graph_copy(inner, {z: mean}))
        for dead in (node, block, pool):
            if not dead.users:
                graph.erase_node(dead)


def _drop_identities(module: nn.Module, graph: fx.Graph) -> None:
    for node in list(graph.nodes):
        if node.op == "call_module" and type(module.get_submodule(str(node.target))) is nn.Identity:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
