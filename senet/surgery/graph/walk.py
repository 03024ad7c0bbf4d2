"""One walk over a model: its modules as graphs, inner ones first, and what was done to them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from senet.blocks.stages import Recalibrate
from senet.surgery.graph.calls import Call
from senet.surgery.graph.guards import Guards
from senet.surgery.graph.install import Rewritten
from senet.surgery.graph.observe import Observed, observe
from senet.surgery.graph.ops import settles_dtype
from senet.surgery.graph.run import float64_twin, node_values, random_like
from senet.surgery.graph.trace import Untraceable, trace
from senet.surgery.graph.written import has_hooks, settings

__all__ = ["Reading", "Walk"]


@dataclass(eq=False)
class Reading:
    """A module called in one way, as a graph, with the value of every node on random input in float64.

    Attributes:
        module: the module itself.
        twin: its float64 twin.
        path: of the module in the model.
        call: the way it is called.
        shapes: its tensors, on the meta device.
        modes: of training, in which the graph holds, and with which values of Python.
        graph: of the module; placeholders are the tensors of the call.
        inputs: random, in float64.
        values: of the nodes.
        found: the gated maps, once they were looked for.
        square: whether what was found holds for square inputs alone.
        casts: whether dtypes of what it computes are decided in it, rather than by its inputs.
    """

    module: nn.Module
    twin: nn.Module
    path: str
    call: Call
    shapes: list[Tensor]
    modes: dict[bool, Guards]
    graph: fx.Graph
    inputs: list[Tensor] = field(default_factory=list)
    values: dict[fx.Node, Any] = field(default_factory=dict)
    found: Any = None
    square: bool = False
    casts: bool = False

    def guards(self) -> list[Guards]:
        """The values of Python that the graph holds for, each once: in several modes they may be the same."""
        guards = [replace(each, square=self.square) for each in self.modes.values()]
        return [each for i, each in enumerate(guards) if each not in guards[:i]]

    @cached_property
    def nbytes(self) -> int:
        """Number of bytes that the values take."""
        return sum(value.nbytes for value in tree_leaves(list(self.values.values())) if isinstance(value, Tensor))

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The twin's parts by the names that nodes call them by."""
        return dict(self.twin.named_modules(remove_duplicate=False))

    def called(self, node: fx.Node) -> nn.Module | None:
        """The part of the twin that a node calls."""
        return self.twin.get_submodule(str(node.target)) if node.op == "call_module" else None

    def place(self, node: fx.Node) -> str:
        """The path, in the model, of the innermost module in whose forward a node is."""
        inside = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
        if node.op == "call_module":  # of which the last is what is called
            inside = inside[:-1]
        return ".".join(part for part in (self.path, *inside[-1:]) if part)


class Walk:
    """The modules of a model, inner ones first, each read when it is asked for.

    A module whose forward is no graph stays whole in the graphs of those around it.

    Args:
        model: any module; it is not touched by reading it.
        example: what its forward takes; None: images of a size that it takes.
        modes: of training, in which modules are read; the first must be a graph, the others may.
        prepare: changes each graph of a module, a float64 twin, before it is run.

    Attributes:
        twin: the model's float64 twin.
        paths: of each module, the first of its names.
        twins, modules: from each module to its twin, and back.
        observed: a run of the twin.
        untraceable: why modules are no graphs.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Sequence[Any] | None,
        *,
        modes: tuple[bool, ...],
        prepare: Callable[[nn.Module, fx.Graph, Observed], None] = lambda *_: None,
    ) -> None:
        self.model, self.modes, self.prepare = model, modes, prepare
        self.twin = float64_twin(model)
        self.paths = {module: path for path, module in model.named_modules()}
        self.twins = {module: self.twin.get_submodule(path) for module, path in self.paths.items()}
        self.modules = {twin: module for module, twin in self.twins.items()}
        self.observed = observe(self.twin, example)
        self.untraceable: dict[nn.Module, str] = {}
        self.done: set[str] = set()
        self._cache: TraceCache = TraceCache()
        self._opaque: set[nn.Module] = set()  # twins

    def hosts(self, *, all_of_them: bool = False) -> Iterator[nn.Module]:
        """Modules that hold a gated map, or all, inner ones first; none that lies in one that is done.

        Gated maps in modules that are done are none to hold.
        """
        for module in reversed(list(self.paths)):
            twin = self.twins[module]
            wanted = all_of_them or any(
                part in self.observed.gated and not self.is_done(self.modules[part]) for part in twin.modules()
            )
            if wanted and (twin in self.observed.calls or twin in self.observed.opaque) and not self.is_done(module):
                yield module

    def read(self, module: nn.Module, wanted: Callable[[fx.Graph], bool] = lambda _: True) -> list[Reading]:
        """A module as graphs, one for each way to call it, or two where training differs; none if it is no graph.

        Why it is none stands in :attr:`untraceable`.

        Args:
            module: of the model.
            wanted: which graphs are to be run; all values of a network of 512 pixels are many gigabytes.
        """
        if module not in self._cache:
            self._cache[module] = self._read(module, wanted)
        return self._cache[module]

    def mark(self, module: nn.Module) -> None:
        """Notes that a module was rewritten: it stays whole in all graphs from now on."""
        self.done.add(self.paths[module])
        for other in list(self._cache):
            if other is module or _lies_in(self.paths[module], self.paths[other]):
                del self._cache[other]

    def forget(self, module: nn.Module) -> None:
        """Has a module, whose graph was changed, read anew when it is asked for."""
        self._cache.pop(module, None)

    def kind(self, module: nn.Module) -> Hashable:
        """A key that two modules share if all that is read of one holds for the other.

        Same classes, settings, hooks, shapes of parameters, shared parts, and ways to be called.
        """
        parts: list[Hashable] = []
        seen: dict[int, int] = {}
        for path, part in module.named_modules(remove_duplicate=False):
            kind: Any = (type(part).original, id(type(part).written)) if isinstance(part, Rewritten) else type(part)
            own = [
                (n, seen.setdefault(id(p), len(seen)), p.shape, p.requires_grad)
                for n, p in part._parameters.items()
                if p is not None
            ]
            kept = [(n, b.shape, b.dtype) for n, b in part._buffers.items() if b is not None]
            absent = [n for d in (part._parameters, part._buffers, part._modules) for n, v in d.items() if v is None]
            known = seen.setdefault(id(part), len(seen))
            # Objects that cannot be compared are told apart, which is slower and never wrong.
            parts.append((path, known, kind, _hashable(settings(part)), has_hooks(part), part.training))
            parts.append((tuple(own), tuple(kept), tuple(absent)))
        ways = self.observed.calls[self.twins[module]]
        calls = [(repr(call), tuple((t.shape, t.dtype) for t in tensors)) for call, tensors in ways]
        return (tuple(parts), tuple(calls))

    def is_done(self, module: nn.Module) -> bool:
        """Whether a module was rewritten, or lies in one that was."""
        path = self.paths[module]
        return any(path == other or _lies_in(path, other) for other in self.done)

    def _read(self, module: nn.Module, wanted: Callable[[fx.Graph], bool]) -> list[Reading]:
        twin = self.twins[module]
        if twin in self.observed.opaque:
            self.untraceable[module] = self.observed.opaque[twin]
            return []
        readings: list[Reading] = []
        try:
            for call, tensors in self.observed.calls[twin]:
                readings += self._graphs(module, call, tensors, wanted)
        except Untraceable as reason:
            self.untraceable[module] = str(reason)
            if not isinstance(module, Recalibrate):  # a block of ours is read as part of what is around it
                self._opaque.add(twin)
            return []
        return readings

    def graphs(self, module: nn.Module) -> list[fx.Graph]:
        """The graphs of a module in its first mode, one for each way to call it, unrun; none if it is no graph."""
        twin = self.twins[module]
        if twin in self._opaque or twin in self.observed.opaque:
            return []
        try:
            return [self._trace(twin, call, tensors, self.modes[0])[0] for call, tensors in self.observed.calls[twin]]
        except Untraceable as reason:
            self.untraceable[module] = str(reason)
            if not isinstance(module, Recalibrate):
                self._opaque.add(twin)
            return []

    def _graphs(
        self, module: nn.Module, call: Call, tensors: list[Tensor], wanted: Callable[[fx.Graph], bool]
    ) -> Iterator[Reading]:
        """One reading where all modes give the same graph, else one of each mode."""
        twin = self.twins[module]
        read: list[Reading] = []
        for training in self.modes:
            try:
                graph, guards = self._trace(twin, call, tensors, training)
            except Untraceable:
                # Evaluation may be a graph where training draws a coin; alone it is no use to what is to train.
                if training == self.modes[0]:
                    raise
                continue
            same = next((r for r in read if _source(r.graph) == _source(graph)), None)
            if same is not None:
                same.modes[training] = guards
                continue
            read.append(Reading(module, twin, self.paths[module], call, tensors, {training: guards}, graph))
        for reading in read:
            if not wanted(reading.graph):
                continue
            if len(read) > 1:  # a graph that is swapped by the mode reads no flag that would tell
                for training, guards in reading.modes.items():
                    guards.attributes.setdefault(("", "training"), training)
            reading.inputs = [random_like(t, seed) for seed, t in enumerate(tensors)]
            try:
                reading.values = dict(node_values(twin, reading.graph, reading.inputs))
            except Exception as error:  # a graph that its module's own call does not follow
                first = (str(error).strip().splitlines() or [""])[0]
                raise Untraceable(f"its graph does not run in float64 ({type(error).__name__}: {first})") from error
            reading.casts = any(_casts(node, reading) for node in reading.graph.nodes)
            yield reading

    def _trace(self, twin: nn.Module, call: Call, tensors: list[Tensor], training: bool) -> tuple[fx.Graph, Guards]:
        """Traces a module; where that fails, with those parts whole that fail by themselves."""
        leaves = {self.twins[m] for m in self.paths if self.paths[m] in self.done} | self._opaque
        try:
            return self._traced(twin, call, tensors, training, leaves)
        except Untraceable:
            found = False
            for inner in reversed(list(twin.modules())[1:]):
                if inner in leaves or next(inner.children(), None) is None or isinstance(inner, Recalibrate):
                    continue
                for inner_call, inner_tensors in self.observed.calls.get(inner, ()):
                    try:
                        self._traced(inner, inner_call, inner_tensors, training, leaves)
                    except Untraceable:
                        leaves.add(inner)
                        found = True
                        break
                if inner in self.observed.opaque:
                    leaves.add(inner)
                    found = True
            if not found:
                raise
            self._opaque |= leaves - {self.twins[m] for m in self.paths if self.paths[m] in self.done} - {twin}
            return self._traced(twin, call, tensors, training, leaves)

    def _traced(
        self, twin: nn.Module, call: Call, tensors: list[Tensor], training: bool, leaves: set[nn.Module]
    ) -> tuple[fx.Graph, Guards]:
        opened = self.observed.gated.keys()
        graph, guards = trace(twin, call, training=training, shapes=tensors, leaves=leaves - {twin}, opened=opened)
        self.prepare(twin, graph, self.observed)
        return graph, guards


class TraceCache(dict[nn.Module, list[Reading]]):
    """Cache of modules that were read; the oldest go first above 2 GiB of values."""

    limit = 2 * 2**30

    def __setitem__(self, module: nn.Module, readings: list[Reading]) -> None:
        super().__setitem__(module, readings)
        sizes = {other: sum(reading.nbytes for reading in its) for other, its in self.items()}
        held = sum(sizes.values())
        for other, size in sizes.items():
            if held > self.limit and other is not module:
                del self[other]
                held -= size


def _casts(node: fx.Node, reading: Reading) -> bool:
    """Whether a node may decide a dtype: one that does, or a part of somebody else's that the graph does not show."""
    part = reading.called(node)
    return settles_dtype(node, reading.values) or not (part is None or type(part).__module__.startswith("torch.nn."))


def _lies_in(path: str, other: str) -> bool:
    return other == "" or path.startswith(f"{other}.")


def _source(graph: fx.Graph) -> str:
    return graph.python_code("self").src


def _hashable(value: Any) -> Hashable:
    if isinstance(value, dict):
        return tuple((key, _hashable(part)) for key, part in value.items())
    if isinstance(value, list | tuple | frozenset):
        return tuple(map(_hashable, value))
    try:
        hash(value)
    except TypeError:
        return object()
    return value
