"""Values of Python that functions read outside of their arguments: globals, closures, and attributes of classes."""

from __future__ import annotations

import collections
import functools
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from senet.surgery.graph.calls import is_plain
from senet.surgery.graph.guards import MISSING, Place, Unguardable, draws, snapshot

__all__ = ["Outside"]

_DEPTH = 8  # of functions that call functions, and of objects in objects
_NOT_READ = {"torch", "numpy", "senet", "builtins", "torchvision", *sys.stdlib_module_names} - {"__main__"}
_CONTAINERS = (list, dict, tuple, set, frozenset, collections.deque)


@dataclass(frozen=True)
class _Names:
    """The names that a function's code mentions, in functions within it too."""

    all: frozenset[str]


class Outside:
    """Notes what functions could read, before they run, and says afterwards what they changed.

    Attributes:
        seen: where a value was found -> a snapshot of it.
    """

    def __init__(self) -> None:
        self.seen: dict[Place, Any] = {}
        self.kept: list[Any] = []  # so that ids stay their own
        self.functions: set[int] = set()

    def note(self, function: Any, depth: int = 0) -> None:
        """Notes the plain values, containers and attributes that a function mentions, and those it could call mention.

        Raises:
            Unguardable: one of them draws random numbers, or cannot be compared.
        """
        function = _unwrapped(function)
        if function is None or id(function) in self.functions or depth > _DEPTH or _is_library(function.__module__):
            return
        self.functions.add(id(function))
        self.kept.append(function)
        names, source = _names(function.__code__), function.__globals__.get("__name__", "")
        for name in sorted(names.all - {"len"}):
            if name in function.__globals__ and getattr(sys.modules.get(source), "__dict__", None) is not None:
                self._value(function.__globals__[name], Place((source, name)), names, depth)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # empty as yet
                continue
            self._value(value, Place((name,), (), cell), names, depth)

    def changed(self) -> str | None:
        """The name of a value that is another now than when it was noted."""
        for place, before in self.seen.items():
            try:
                if snapshot(place.value()) != before:
                    return place.name
            except Exception:  # a proxy is in it, which is no value
                return place.name
        return None

    def _value(self, value: Any, place: Place, names: _Names, depth: int) -> None:
        if depth > _DEPTH:
            return
        if draws(value):
            raise Unguardable(f"it has random numbers of its own ({place.name})")
        if is_plain(value):
            self.seen.setdefault(place, value)
        elif isinstance(value, nn.Module):
            return
        elif isinstance(value, Tensor):
            if not isinstance(value, nn.Parameter) and value.numel() == 1:
                raise Unguardable(f"it may read a number of the tensor {place.name}, which is none of its parts")
        elif isinstance(value, types.ModuleType):
            if not _is_library(value.__name__):
                for name in names.all & vars(value).keys():
                    self._value(vars(value)[name], Place((value.__name__, name)), names, depth + 1)
        elif isinstance(value, _CONTAINERS):
            parts = list(value.values() if isinstance(value, dict) else value)
            if all(callable(part) for part in parts):
                for part in parts:
                    self.note(part, depth + 1)
            else:
                self.seen.setdefault(place, snapshot(value))
        elif _unwrapped(value) is not None:
            self.note(value, depth + 1)
            if isinstance(value, functools.partial):
                self.seen.setdefault(place, snapshot(value))
        elif isinstance(value, type):
            if not _is_library(value.__module__) and not issubclass(value, nn.Module):
                self._attributes(value, value.__mro__, place, names, depth)
        elif type(value).__module__ == "types" or not _is_library(type(value).__module__):
            names = _with_methods(names, type(value).__mro__)
            found = getattr(value, "__dict__", {})
            for name in sorted(names.all & found.keys()):
                self._value(found[name], place.of(name), names, depth + 1)
            slots = [s for k in type(value).__mro__ for s in _slots(k)]
            for name in sorted(names.all & set(slots)):
                self._value(getattr(value, name, MISSING), place.of(name), names, depth + 1)
            self._attributes(value, type(value).__mro__, place, names, depth)

    def _attributes(self, owner: Any, kinds: tuple[type, ...], place: Place, names: _Names, depth: int) -> None:
        """Notes the attributes of classes that are mentioned, and the methods."""
        names = _with_methods(names, kinds)
        for kind in kinds:
            if _is_library(kind.__module__):
                continue
            for name, found in vars(kind).items():
                if name == "__call__" or (name in names.all and not name.startswith("__")):
                    if isinstance(found, property):
                        self.note(found.fget, depth + 1)
                    elif _unwrapped(found) is not None:
                        self.note(found, depth + 1)
                    elif not hasattr(type(found), "__get__"):
                        self._value(getattr(owner, name), place.of(name), names, depth + 1)


def _with_methods(names: _Names, kinds: tuple[type, ...]) -> _Names:
    """The names, and those that the methods of classes mention which they name."""
    found = {name: f for kind in kinds if not _is_library(kind.__module__) for name, f in vars(kind).items()}
    known, todo = set(names.all), [*names.all, "__call__"]
    while todo:
        value = found.get(todo.pop())
        function = _unwrapped(value.fget if isinstance(value, property) else value)
        new = (_names(function.__code__).all if function is not None else frozenset()) - known
        known |= new
        todo += new
    return _Names(frozenset(known))


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _is_library(module: str | None) -> bool:
    name = module or ""
    return name.partition(".")[0] in _NOT_READ or name.startswith("timm.layers")


def _unwrapped(value: Any) -> types.FunctionType | None:
    """The function of Python in a method, a partial or the like."""
    for _ in range(_DEPTH):
        if isinstance(value, types.FunctionType):
            return value
        if isinstance(value, types.MethodType | staticmethod | classmethod):
            value = value.__func__
        elif isinstance(value, functools.partial):
            value = value.func
        else:
            return None
    return None


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _names(code: types.CodeType) -> _Names:
    return _Names(frozenset(name for each in _codes(code) for name in each.co_names))
