"""A module's forward as a graph, with the values of Python that the graph holds for."""

from __future__ import annotations

import builtins
import functools
import sys
import types
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from senet.blocks.stages import excited
from senet.errors import with_article
from senet.surgery.graph.calls import Call
from senet.surgery.graph.executed import executed_noted, numbers_watched
from senet.surgery.graph.guards import MISSING, Guards, Unguardable, is_constant, snapshot
from senet.surgery.graph.install import Rewritten, class_of
from senet.surgery.graph.modules import is_norm
from senet.surgery.graph.ops import normalise, reaching
from senet.surgery.graph.outside import ASK_CLASSES, Outside, is_library, names_of
from senet.surgery.graph.proxies import RANKS, RankProxy, is_proxy
from senet.surgery.graph.run import Wide, random_like
from senet.surgery.graph.side_effects import both_autocasts, random_numbers_kept

__all__ = ["Untraceable", "trace"]

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_len = builtins.len  # while a forward is traced, another stands in its place
_OWN = frozenset(dir(nn.Module())) - {"training"} | frozenset(vars(Rewritten)) | frozenset(Rewritten.__annotations__)
_FACTORIES = ("rand", "randn", "zeros", "ones", "empty", "full", "arange", "randint", "linspace")


class Untraceable(Exception):  # noqa: N818 - it is no error of the user's
    """A module whose forward does not fit into one graph; the message says why."""


def trace(
    module: nn.Module,
    call: Call,
    *,
    training: bool,
    shapes: Sequence[Tensor] = (),
    leaves: Collection[nn.Module] = (),
    opened: Collection[nn.Module] = (),
) -> tuple[fx.Graph, Guards]:
    """Returns the graph of a module's forward in one mode, and what it holds for.

    Placeholders are the tensors of the call, in order. Each node's ``meta["output_of"]`` names the modules whose output
    it is, inner ones first, if there are any. Nothing is traced into that has its own meaning here: norms,
    convolutions, PyTorch's own layers, and small modules of one tensor without parts.

    Args:
        module: to trace; its modes are kept.
        call: how it is called.
        training: the mode of all its parts.
        shapes: its tensors, on the meta device; by them the forward is told how many axes its tensors have.
        leaves: modules below it that stay whole.
        opened: modules below it that are traced into, however small.

    Raises:
        Untraceable: forward branches on numbers in tensors, draws random numbers outside of tensors, changes the
            module, or computes with tensors that are neither inputs nor parts.
    """
    if "forward" in vars(module):
        raise Untraceable("its forward was replaced on the object itself")
    before = {m: m.training for m in module.modules()}
    tracer = _Tracer(call, shapes, leaves, opened)
    module.train(training)
    for leaf in leaves:  # it may be frozen in evaluation by itself
        if leaf in before:
            leaf.train(before[leaf])
    try:
        graph = tracer.read(module)
    finally:
        module.train(before[module])  # as a feature extractor has a graph for each mode
        for m, mode in before.items():
            m.training = mode
    normalise(graph)
    return graph, tracer.guards


class _Tracer(fx.Tracer):
    """Records one forward, and notes what it asks of Python."""

    proxy_buffer_attributes = True

    def __init__(
        self, call: Call, shapes: Sequence[Tensor], leaves: Collection[nn.Module], opened: Collection[nn.Module]
    ) -> None:
        super().__init__(autowrap_functions=(excited,))
        self.call, self.shapes, self.leaves, self.opened = call, shapes, leaves, opened
        self.guards = Guards()
        self.containers: list[tuple[str, Any, Any]] = []  # what may be changed in place: its name, itself, a snapshot
        self.outside = Outside()
        self.quiet = self.running = False
        self.undo = ExitStack()

    def read(self, module: nn.Module) -> fx.Graph:
        with both_autocasts(), warnings.catch_warnings(), self.undo:
            warnings.simplefilter("ignore")
            self.grad = torch.is_grad_enabled()
            self._watch(module)
            self._make_tensors_of_proxies()
            try:
                with random_numbers_kept(), self._executed():
                    graph = self.trace(module)
            except Untraceable:
                raise
            except Unguardable as reason:
                raise Untraceable(str(reason)) from reason
            except Exception as error:  # whatever a forward does with a proxy in its hands
                first = (str(error).strip().splitlines() or [""])[0]
                raise Untraceable(f"its forward cannot be traced ({type(error).__name__}: {first})") from error
            finally:
                self.quiet = True
                changed = self._changed() or self.outside.changed()
            if changed:
                raise Untraceable(f"it changes {changed} while it runs")
            self.guards.outside.update(self.outside.seen)
        return graph

    # How modules are called.

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:  # noqa: ARG002
        """Makes a placeholder of each tensor of the call, and puts them where they belong."""
        proxies = [self.create_proxy("placeholder", f"input_{i}", (), {}) for i in range(self.call.tensors)]
        if isinstance(self.root, Rewritten):  # its text is a graph already
            root_fn = self._written(self.root)
        else:
            self._count_through(root_fn, class_of(self.root))

        def forward(root: nn.Module, *given: Any) -> Any:
            args, kwargs = self.call.rebuild(given)
            return root_fn(root, *args, **kwargs)

        return forward, [self.root, *proxies]

    @contextmanager
    def _executed(self) -> Iterator[None]:
        """Watches all functions that run, but for surgery's own."""

        def is_quiet() -> bool:
            return self.quiet or self.running

        known = self.outside.tensors
        with executed_noted(self.outside, self.guards, is_quiet), numbers_watched(known, is_quiet):
            yield

    def _written(self, root: Rewritten) -> Callable[..., Any]:
        """The rewritten forward that a module runs in this call."""
        tensors = [torch.empty((1,) * ndim) for ndim in self.call.ndims()]
        with self._quietly():
            fitting = [w for w in root.written if w.call == self.call and w.holds.call(root, *tensors)]
        if not fitting:
            raise Untraceable("none of its rewritten forwards is for this call")
        return fitting[0].run.call

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        if m in self.leaves or isinstance(m, nn.modules.conv._ConvNd | torch.jit.ScriptModule) or is_norm(m):
            return True
        if isinstance(m, _CONTAINERS) or m in self.opened:
            return False
        if m.__module__.startswith("torch.nn"):
            return True
        has_parts = next(m.children(), None) is not None
        return not has_parts and next(m.parameters(recurse=False), None) is None and self.inputs == 1

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Notes at each node whose output it is, for a module that is no leaf leaves no node of its own."""
        if self.running:
            return forward(*args, **kwargs)
        if m not in (self.submodule_paths or ()):  # made in the forward itself
            if next(m.parameters(), None) is not None:
                raise Untraceable(f"it calls {with_article(type(m).__name__)} that is none of its parts")
            return forward(*args, **kwargs)
        with self._quietly():
            self.inputs = sum(isinstance(a, fx.Proxy) for a in (*args, *kwargs.values()))
            leaf = self.is_leaf_module(m, "")
        if not leaf and not isinstance(m, Rewritten):
            self._count_through(type(m).forward, class_of(m))
        output = super().call_module(m, forward, args, kwargs)
        if isinstance(output, fx.Proxy):
            output.node.meta.setdefault("output_of", []).append(self.path_of_module(m))
        return output

    def _count_through(self, forward: Any, kind: type) -> None:
        """Lets ``len`` of a tensor be a node, as Python wants a number of it, and notes what it reads of Python."""
        code, names = getattr(forward, "__code__", None), getattr(forward, "__globals__", None)
        if code is None or names is None:
            return
        with self._quietly():
            self.outside.note(forward)
            self.outside.note_class(kind, forward, "forward")
        if "len" not in names:
            names["len"] = lambda x: self.create_proxy("call_function", len, (x,), {}) if is_proxy(x) else _len(x)
            self.undo.callback(names.pop, "len", None)

    def _make_tensors_of_proxies(self) -> None:
        """Lets functions that make tensors of a size be nodes where the size is one of a tensor."""

        def traced(make: Callable[..., Any]) -> Callable[..., Any]:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                if any(map(is_proxy, tree_leaves((args, kwargs)))):
                    return self.create_proxy("call_function", make, args, kwargs)
                return make(*args, **kwargs)

            return wrapper

        for name in _FACTORIES:
            make = getattr(torch, name)
            setattr(torch, name, traced(make))
            self.undo.callback(setattr, torch, name, make)

    # What becomes of values.

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        if torch.is_grad_enabled() != self.grad:
            raise Untraceable("it switches gradients on or off for a part of its forward")
        if not (torch.is_autocast_enabled("cpu") and torch.is_autocast_enabled("cuda")):
            self.guards.no_autocast = True
        with self._quietly():
            return super().create_node(kind, *args, **kwargs)

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, nn.Module):  # an argument of `excited`
            if a is self.root:
                raise Untraceable("it is a block of ours; the module around it is rewritten")
            return self.create_node("get_attr", self.path_of_module(a), (), {})
        if isinstance(a, Tensor) and not isinstance(a, nn.Parameter):
            known = a in self.tensor_attrs or any(a is b for _, b in self.root.named_buffers())
            if not known:  # baked in, it would neither follow the model's device nor what it was computed from
                raise Untraceable("it computes with a tensor that it makes from numbers")
        return super().create_arg(a)

    # How many axes a tensor has is the same in every call of its kind, so a forward may be told; sizes are not.

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return RankProxy(node, self)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Yields the entries of what has as many in every call, such as a tensor's sizes."""
        value = self.value(obj.node)
        if isinstance(value, tuple | list):
            return iter([obj[i] for i in range(_len(value))])  # type: ignore[index]
        return super().iter(obj)

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self.rank(obj.node)) if self.is_of_ranks(obj.node) else super().to_bool(obj)

    def is_of_ranks(self, node: fx.Node) -> bool:
        """Whether a node depends on tensors by how many axes they have alone."""
        if node.target in RANKS or (node.target is getattr and node.args[1:2] == ("ndim",)):
            return True
        inputs = node.all_input_nodes
        return node.op == "call_function" and bool(inputs) and all(map(self.is_of_ranks, inputs))

    def rank(self, node: fx.Node) -> Any:
        """The value of a node that is of ranks.

        Raises:
            Untraceable: it is of sizes, or of numbers in tensors.
        """
        if not self.is_of_ranks(node):
            raise Untraceable("it uses a size or a number of a tensor as a number of Python")
        return self.value(node)

    def value(self, node: fx.Node) -> Any:
        """The value of a node in one run; of it nothing may be used that is another in other calls."""
        needed = reaching(node, forward=False)
        inputs = iter([random_like(t, seed) for seed, t in enumerate(self.shapes)])
        interpreter, known = fx.Interpreter(self.root, graph=self.graph), dict[fx.Node, Any]()
        before, self.running = self.running, True
        try:
            with self._quietly(), torch.no_grad(), Wide(), torch.autocast("cpu", enabled=False):
                for each in self.graph.nodes:
                    if each.op == "placeholder":
                        known[each] = next(inputs, None)
                    elif each in needed:
                        args, kwargs = (fx.node.map_arg(a, known.__getitem__) for a in (each.args, each.kwargs))
                        known[each] = getattr(interpreter, each.op)(each.target, args, kwargs)
        finally:
            self.running = before
        return known[node]

    # What is asked of modules.

    def _watch(self, root: nn.Module) -> None:
        """Notes each attribute that is read of a module below, and refuses what writes one, for as long as it traces.

        Read attributes that are found do not pass ``nn.Module.__getattr__``, which is all that torch.fx watches.
        """
        paths = {m: path for path, m in root.named_modules()}
        written = nn.Module.__setattr__

        def reads(module: nn.Module, name: str) -> Any:
            try:
                value = object.__getattribute__(module, name)
            except AttributeError:
                if module in paths and not self.quiet:
                    self._note_part(module, paths[module], name, sys._getframe(1))
                raise
            if self.quiet or module not in paths:
                return value
            if name == "__dict__" and not is_library(sys._getframe(1).f_globals.get("__name__")):
                raise Untraceable("it reads its attributes by __dict__")
            if name in _OWN or name.startswith("__"):
                return value
            return self._note(module, paths[module], name, value)

        def writes(module: nn.Module, name: str, value: Any) -> None:
            if module in paths and not self.quiet and name not in _OWN:
                raise Untraceable(f"it writes its attribute {name} while it runs")
            written(module, name, value)

        nn.Module.__getattribute__ = reads  # type: ignore[method-assign,assignment]
        nn.Module.__setattr__ = writes  # type: ignore[method-assign,assignment]

        def stop() -> None:
            del nn.Module.__getattribute__
            nn.Module.__setattr__ = written  # type: ignore[method-assign]

        self.undo.callback(stop)

    def _note(self, module: nn.Module, path: str, name: str, value: Any) -> Any:
        own = name in object.__getattribute__(module, "__dict__")
        with self._quietly():
            if isinstance(value, types.FunctionType | types.MethodType | functools.partial):
                self.outside.note(value)
            if isinstance(value, types.MethodType) and not own:
                self.outside.note_class(class_of(module), value, name)
                return value
            if isinstance(value, Tensor):  # a plain attribute, which no module moves: read when it is wanted
                return self.create_proxy("get_attr", ".".join(p for p in (path, name) if p), (), {})
            if not is_proxy(value):
                seen = snapshot(value, self.outside.tensors)
                self.guards.attributes[path, name] = seen
                if not is_constant(seen):
                    self.containers.append((name, value, seen))
        return value

    def _note_part(self, module: nn.Module, path: str, name: str, asking: types.FrameType) -> None:
        for kind in ("_modules", "_parameters", "_buffers"):
            parts = object.__getattribute__(module, "__dict__").get(kind, {})
            if name in parts:
                self.guards.parts[path, name] = parts[name] is not None
                if isinstance(parts[name], nn.Module) and names_of(asking.f_code) & ASK_CLASSES:
                    with self._quietly():
                        self.outside.note_class(class_of(parts[name]), asking.f_code)
                        for inner, part in parts[name].named_modules(prefix=f"{path}.{name}".removeprefix(".")):
                            self.guards.kinds[inner] = class_of(part)
                return
        if not name.startswith("__") and name not in _OWN:
            self.guards.attributes[path, name] = MISSING

    def _changed(self) -> str | None:
        """The name of an attribute that the forward changed in place; it is given back what it had."""
        name = None
        for attribute, value, seen in self.containers:
            try:
                same = snapshot(value) == seen
            except Exception:  # a proxy is in it, which is no value
                same = False
            if not same:
                name = attribute
                if isinstance(value, list):
                    value[:] = [part for part in value if not is_proxy(part)]
        return name

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        before, self.quiet = self.quiet, True
        try:
            yield
        finally:
            self.quiet = before
