"""Gives a module another forward, and its own back: by its class, so that nothing in it changes.

The module stays the same object with the same parts, parameters, hooks and state_dict, and an instance of the class
it was of. The other forward runs only while everything is as it was when it was read: the arguments, the values of
Python that the forward asks for, and the parts it goes around. Else the original forward runs.
"""

from __future__ import annotations

import builtins
import copy
import copyreg
import functools
import importlib
import linecache
import pickle
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from senet.errors import InputError
from senet.surgery.graph.calls import Call, is_plain
from senet.surgery.graph.guards import MISSING, Guards, Itself, Unguardable, is_constant, is_same, snapshot

__all__ = [
    "Rewritten",
    "Variant",
    "class_of",
    "give_back",
    "has_hooks",
    "is_there",
    "put_in",
    "put_same_in",
    "restore",
    "settings",
]

_everywhere = nn.modules.module
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class Variant:
    """A rewritten forward.

    Attributes:
        call: how the module is called where it runs.
        guards: values of Python that it holds for.
        graph: the forward; its placeholders are the tensors of the call.
    """

    call: Call
    guards: Guards
    graph: fx.Graph


class _Function:
    """A function that was written as text, and can be stored as such: the text, and what its names stand for."""

    def __init__(self, source: str, names: Mapping[str, Any], name: str, title: str) -> None:
        self.source, self.names, self.name, self.title = source, names, name, title
        self.call = self._compiled()

    def _compiled(self) -> Callable[..., Any]:
        filename = f"<senet: {self.title} {id(self):x}>"
        linecache.cache[filename] = (len(self.source), None, self.source.splitlines(keepends=True), filename)
        names = dict(self.names)
        exec(compile(self.source, filename, "exec"), names)  # noqa: S102 - torch.fx's own text, as in its GraphModule
        return names[self.name]

    def __getstate__(self) -> dict[str, Any]:
        names = {name: _Module(v.__name__) if isinstance(v, types.ModuleType) else v for name, v in self.names.items()}
        source = self.source
        if self.name == _HOLDS:
            # A line that compares with what no pickle holds, as a closure's cell or an object by which one it is.
            gone = {name for name, v in names.items() if not _has_pickle(v)}
            lines = source.splitlines(keepends=True)
            source = "".join(line for line in lines if not gone.intersection(re.findall(r"\w+", line)))
            names = {name: v for name, v in names.items() if name not in gone}
        return {"source": source, "names": names, "name": self.name, "title": self.title}

    def __setstate__(self, state: dict[str, Any]) -> None:
        names = {n: importlib.import_module(v.name) if isinstance(v, _Module) else v for n, v in state["names"].items()}
        vars(self).update(state, names=names)
        self.call = self._compiled()


_HOLDS = "holds"


def _has_pickle(value: Any) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # whatever an object says to it
        return False
    return True


def _reader(cell: types.CellType) -> Callable[[], Any]:
    """A function that gives what is in a closure's cell, through its own closure, which torch.compile follows."""
    value = None
    code = (lambda: value).__code__
    return types.FunctionType(code, {"__builtins__": builtins}, "reads", None, (cell,))


@dataclass(frozen=True)
class _Module:
    """A module of Python, by its name, as pickles hold none."""

    name: str


@dataclass(frozen=True)
class _Written:
    """A variant as functions: whether it holds for a module, and what it computes."""

    call: Call
    holds: _Function
    run: _Function


class Rewritten(nn.Module):
    """A module whose forward was rewritten; mixed into its class.

    Attributes:
        original: the class.
        written: the rewritten forwards, the first that holds runs.
        plain: whether they are of PyTorch's own operators alone. Then a pickle holds them too, and torch.func and
            tracers see through them; else a pickle holds a module of the original class, which computes the same.
        otherwise: the error where none holds; None: the original forward runs.
    """

    original: type[nn.Module]
    written: tuple[_Written, ...]
    plain: bool
    otherwise: str | None

    def rewritten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Callable[..., Any], list[Any]] | None:
        """The rewritten forward for a call, and its tensors; None where the original one is to run."""
        if not self.plain and not torch.compiler.is_compiling() and _is_transformed():
            return None
        for written in self.written:
            tensors = written.call.match(args, kwargs, proxies=self.plain)
            if tensors is not None and written.holds.call(self, *tensors):
                return written.run.call, tensors
        return None

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        kind = type(self)
        self.__class__ = self.original  # type: ignore[assignment]
        try:  # as its own class makes copies
            twin = copy.deepcopy(self, memo)
        finally:
            self.__class__ = kind
        twin.__class__ = (
            kind if type(twin) is kind.original else _make_class(type(twin), kind.written, kind.plain, kind.otherwise)
        )
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.plain:
            return _restored, (self.original, self.written, self.otherwise), self.__getstate__()
        # Not copyreg.__newobj__: pickle insists that it be given the object's own class.
        return copyreg._reconstructor, (self.original, object, None), self.__getstate__()  # type: ignore[attr-defined]


def _is_transformed() -> bool:
    """Whether functions of torch.func, forward-mode derivatives or hooks on all modules look at what is computed.

    Hooks that count what a fused module itself does say so by an attribute, ``counts_as_it_is``.
    """
    if torch._C._functorch.peek_interpreter_stack() is not None or torch.autograd.forward_ad._current_level >= 0:
        return True
    hooks = (*_everywhere._global_forward_hooks.values(), *_everywhere._global_forward_pre_hooks.values())
    return bool(hooks) and not all(getattr(hook, "counts_as_it_is", False) for hook in hooks)


def has_hooks(module: nn.Module, besides: Callable[[object], bool] = lambda _: False) -> bool:
    """Whether anything is to be called when a module is, or its backward, besides some hooks."""
    return any(not besides(hook) for name in _HOOKS for hook in getattr(module, name).values())


def put_in(
    module: nn.Module, variants: Sequence[Variant], *, plain: bool = False, otherwise: str | None = None
) -> None:
    """Makes a module run rewritten forwards where they hold.

    Args:
        module: changed by its class alone.
        variants: forwards that were traced from it and rewritten.
        plain: whether they are of PyTorch's own operators alone.
        otherwise: the error where none holds; None: the original forward runs.
    """
    assert not isinstance(module, Rewritten)
    written = tuple(
        _Written(
            each.call, _guard(module, each, hooks=otherwise is None), _function_of(each.graph, type(module).__name__)
        )
        for each in variants
    )
    module.__class__ = _make_class(type(module), written, plain, otherwise)


def put_same_in(module: nn.Module, like: nn.Module) -> None:
    """Makes a module run the rewritten forwards of another of its kind."""
    assert isinstance(like, Rewritten)
    assert like.original is type(module)
    module.__class__ = type(like)


def give_back(module: nn.Module) -> None:
    """Gives a rewritten module its class back."""
    assert isinstance(module, Rewritten)
    module.__class__ = module.original  # type: ignore[assignment]


def restore(model: nn.Module) -> None:
    """Gives every rewritten module below a model, and the model, its class back."""
    for module in model.modules():
        if isinstance(module, Rewritten):
            give_back(module)


def _make_class(
    original: type[nn.Module], written: tuple[_Written, ...], plain: bool, otherwise: str | None
) -> type[Rewritten]:
    @functools.wraps(original.forward)  # for its signature, by which torch.export names inputs
    def forward(self: Rewritten, *args: Any, **kwargs: Any) -> Any:
        chosen = self.rewritten(args, kwargs)
        if chosen is None:
            if otherwise is not None:
                raise InputError(otherwise)
            return original.forward(self, *args, **kwargs)
        run, tensors = chosen
        return run(self, *tensors)

    namespace: dict[str, Any] = {
        "original": original,
        "written": written,
        "plain": plain,
        "otherwise": otherwise,
        "forward": forward,
        "__doc__": original.__doc__,
        "__module__": original.__module__,
        "__qualname__": original.__qualname__,
    }
    if issubclass(original, fx.GraphModule):
        namespace["recompile"] = _recompile
    return type(original.__name__, (Rewritten, original), namespace)


def _recompile(self: Any) -> Any:
    """Lets a GraphModule write its code into its own class, not into the one mixed in."""
    kind = type(self)
    self.__class__ = kind.original
    try:
        return self.recompile()
    finally:
        self.__class__ = kind


def _restored(original: type[nn.Module], written: tuple[_Written, ...], otherwise: str | None) -> nn.Module:
    """An empty module of a class with rewritten forwards, from a pickle; its state follows."""
    kind = _make_class(original, written, True, otherwise)
    return kind.__new__(kind)


def _function_of(graph: fx.Graph, name: str) -> _Function:
    """A graph as a function of the module that it was traced from, and its inputs."""
    code = graph.python_code("self")
    return _Function(code.src, code.globals, "forward", name)


def _guard(module: nn.Module, variant: Variant, *, hooks: bool) -> _Function:
    """A function that says whether a variant holds for a module, written out so that it takes little time.

    Checked are the attributes that were read, parts that were asked for, and of parts that the graph goes around their
    class, forward and names of parts and, where they have none, their settings.

    Args:
        module: whose forward was rewritten.
        variant: what it was rewritten to.
        hooks: whether parts that the graph goes around must have no hooks, so that those are called.
    """
    names: dict[str, Any] = {"is_same": is_same, "MISSING": MISSING, "there": is_there}
    names |= {"torch": torch, "sys": sys, "class_of": class_of}
    lines: list[str] = []
    known = {"": "self"}

    def constant(value: Any) -> str:
        names[f"held_{len(names)}"] = value
        return f"held_{len(names) - 1}"

    def at(path: str) -> str:
        """A variable that holds the module at a path."""
        if path not in known:
            parent, _, last = path.rpartition(".")
            above = at(parent)
            known[path] = f"m{len(known)}"
            lines.append(f"{known[path]} = {above}._modules.get({last!r})")
            lines.append(f"if {known[path]} is None: return False")
        return known[path]

    if variant.guards.no_autocast:
        lines.append(
            "if tensors[0].device.type != 'meta' and torch.is_autocast_enabled(tensors[0].device.type): return False"
        )
    if variant.guards.square:
        lines.append("if any(len(set(t.shape[2:])) > 1 for t in tensors if t.ndim > 3): return False")
    for place, value in variant.guards.outside.items():
        if place.cell is not None:
            found = f"{constant(_reader(place.cell))}()"
        elif isinstance(place.owner, dict):
            found = f"{constant(Itself(place.owner))}.value.get({place.root[-1]!r}, MISSING)"
        elif place.owner is not None:
            found = constant(place.owner)
        else:
            found = f"sys.modules[{place.root[0]!r}].__dict__.get({place.root[1]!r}, MISSING)"
        for name in place.path:
            found = f"getattr({found}, {name!r}, MISSING)"
        lines.append(f"if {_differs(found, value, constant)}: return False")
    for name, value in variant.guards.asked.items():
        lines.append(f"if {_differs(f'torch.{name}()', value, constant)}: return False")
    for path, kind in variant.guards.kinds.items():
        lines.append(f"if class_of({at(path)}) is not {constant(kind)}: return False")
    for (path, name), there in variant.guards.parts.items():
        here = at(path)
        if there and name in module.get_submodule(path)._modules:  # as nearly always, and quicker to ask
            lines.append(f"if {here}._modules.get({name!r}) is None: return False")
        else:
            lines.append(f"if there({here}, {name!r}) is not {there}: return False")
    for (path, name), value in variant.guards.attributes.items():
        _compare(lines, at(path), name, value, constant)
    called = {str(n.target) for n in variant.graph.nodes if n.op == "call_module"}
    used = {str(n.target) for n in variant.graph.nodes if n.op == "get_attr"}
    for path, part in module.named_modules():
        if not any(path == c or path.startswith(f"{c}.") for c in called):
            here = at(path)
            lines.append(f"if {here}._modules.keys() != {constant(frozenset(part._modules))}: return False")
            if not path:
                continue
            lines.append(f"if 'forward' in {here}.__dict__: return False")
            if hooks:
                lines.append(f"if {' or '.join(f'{here}.{name}' for name in _HOOKS)}: return False")
            if isinstance(part, fx.GraphModule):  # each has a class of its own
                lines.append(f"if {here}._code != {constant(part._code)}: return False")
            else:
                lines.append(f"if type({here}) is not {constant(type(part))}: return False")
            if next(part.children(), None) is None:
                for name, value in _fixed(part, used=path in used).items():
                    _compare(lines, here, name, value, constant)
    body = "".join(f"    {line}\n" for line in [*lines, "return True"])
    return _Function(f"def holds(self, *tensors):\n{body}", names, "holds", f"{type(module).__name__} holds")


def _compare(lines: list[str], here: str, name: str, value: Any, constant: Callable[[Any], str]) -> None:
    lines.append(f"if {_differs(f'getattr({here}, {name!r}, MISSING)', value, constant)}: return False")


def _differs(found: str, value: Any, constant: Callable[[Any], str]) -> str:
    """A question in Python whether what is found is other than a value was, of which there may be a snapshot."""
    if value is MISSING:
        return f"{found} is not MISSING"
    if value is None or isinstance(value, bool):
        return f"{found} is not {value}"
    if type(value) is int:  # which True and 1.0 equal
        return f"type(v := {found}) is not int or v != {value}"
    if isinstance(value, type | types.BuiltinFunctionType):
        return f"{found} is not {constant(value)}"
    if is_constant(value):
        return f"{found} != {constant(value)}"
    return f"not is_same({found}, {constant(value)})"


def class_of(module: nn.Module) -> type[nn.Module]:
    """The class of a module, or that of which it was before its forward was rewritten."""
    return module.original if isinstance(module, Rewritten) else type(module)


def is_there(module: nn.Module, name: str) -> bool:
    """Whether a module has a part, parameter or buffer of a name, and it is not None."""
    for parts in (module._modules, module._parameters, module._buffers):
        if name in parts:
            return parts[name] is not None
    return name in module.__dict__ and module.__dict__[name] is not None


def _fixed(part: nn.Module, *, used: bool) -> dict[str, Any]:
    """The settings of a part without parts that a graph goes around, and holds for.

    Args:
        part: any.
        used: whether the graph works with it. Then what a norm says is asked each time, and of others it is called.
    """
    found = settings(part)
    if not type(part).forward.__module__.startswith("torch."):  # it may read more, which an instance may be given later
        found = {name: v for kind in type(part).__mro__[::-1] for name, v in _said_by(kind).items()} | found
    if not used or isinstance(part, nn.modules.conv._ConvNd):
        return found
    return {n: v for n, v in found.items() if n not in _ASKED} if "running_mean" in part._buffers else {}


_ASKED = {"eps", "momentum", "affine", "track_running_stats", "num_features"}


def _said_by(kind: type) -> dict[str, Any]:
    """The constants that a class holds, if it is not one of PyTorch's."""
    if kind.__module__.startswith("torch.") or kind is object:
        return {}
    return {name: v for name, v in vars(kind).items() if is_plain(v) and not name.startswith("__")}


@functools.cache
def _internals() -> frozenset[str]:
    return frozenset(vars(nn.Module()))


def settings(module: nn.Module) -> dict[str, Any]:
    """The plain attributes of a module itself, as snapshots."""

    def kept(value: Any) -> Any:
        try:
            return snapshot(value)
        except Unguardable:
            return type(value)

    return {
        name: kept(value)
        for name, value in vars(module).items()
        if name not in _internals() and not name.startswith("_senet") and not isinstance(value, types.MethodType)
    }
