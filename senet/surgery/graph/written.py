"""Writes graphs, and the guards under which they hold, as functions of Python: quick to call, and to be stored."""

from __future__ import annotations

import builtins
import functools
import importlib
import linecache
import re
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pickle import dumps
from typing import Any

import torch
from torch import fx, nn

from senet.surgery.graph.calls import Call, is_plain
from senet.surgery.graph.guards import MISSING, Guards, Itself, Unguardable, is_constant, is_same, snapshot

__all__ = ["Function", "Variant", "function_of", "guard_of", "has_hooks", "is_there", "settings"]

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


class Function:
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
        dumps(value)
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


def function_of(graph: fx.Graph, name: str) -> Function:
    """A graph as a function of the module that it was traced from, and its inputs."""
    code = graph.python_code("self")
    return Function(code.src, code.globals, "forward", name)


def guard_of(
    module: nn.Module, variant: Variant, *, hooks: bool, class_of: Callable[[nn.Module], type[nn.Module]]
) -> Function:
    """A function that says whether a variant holds for a module, written out so that it takes little time.

    Checked are the attributes that were read, parts that were asked for, and of parts that the graph goes around their
    class, forward and names of parts and, where they have none, their settings.

    Args:
        module: whose forward was rewritten.
        variant: what it was rewritten to.
        hooks: whether parts that the graph goes around must have no hooks, so that those are called.
        class_of: tells the class that a module had before surgery.
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
    return Function(f"def holds(self, *tensors):\n{body}", names, "holds", f"{type(module).__name__} holds")


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


def has_hooks(module: nn.Module, besides: Callable[[object], bool] = lambda _: False) -> bool:
    """Whether anything is to be called when a module is, or its backward, besides some hooks."""
    return any(not besides(hook) for name in _HOOKS for hook in getattr(module, name).values())


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
