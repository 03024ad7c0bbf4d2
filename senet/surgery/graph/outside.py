"""Values of Python that functions read outside of their arguments: globals, closures, defaults, and classes."""

from __future__ import annotations

import collections
import contextvars
import functools
import gc
import sys
import types
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from senet.surgery.graph.calls import is_plain
from senet.surgery.graph.guards import MISSING, Itself, Place, Unguardable, draws, is_constant, is_same, snapshot
from senet.surgery.graph.install import class_of

__all__ = ["ASK_CLASSES", "Outside", "is_library", "names_of"]

_DEPTH = 8  # of functions that call functions, and of objects in objects
_NOT_READ = {"torch", "numpy", "senet", "builtins", "torchvision", *sys.stdlib_module_names} - {"__main__"}
_CONTAINERS = (list, dict, tuple, set, frozenset, collections.deque)
# Who mentions one of them may read attributes whose names stand nowhere.
_BY_ANY_NAME = frozenset({"getattr", "vars", "__dict__", "asdict", "astuple", "attrgetter"})
# And one of these, what an object's class holds.
ASK_CLASSES = frozenset({"isinstance", "issubclass", "type", "__class__"})
_NOT_RUN = frozenset(
    {
        *("__init__", "__new__", "__post_init__", "__init_subclass__", "__class_getitem__", "__set_name__", "__del__"),
        *("__copy__", "__deepcopy__", "__getstate__", "__setstate__", "__reduce__", "__reduce_ex__", "__sizeof__"),
        *("__repr__", "__str__", "__dir__"),
    }
)


class Outside:
    """Notes what functions could read, before they run, and says afterwards what they changed.

    Attributes:
        seen: where a value was found -> a snapshot of it.
        tensors: those whose numbers are among the snapshots.
    """

    def __init__(self) -> None:
        self.seen: dict[Place, Any] = {}
        self.tensors: list[Tensor] = []
        self._kept: list[Any] = []  # so that ids stay their own
        self._functions: set[int] = set()
        self._codes: set[types.CodeType] = set()
        self._classes: set[tuple[type, Any, str | None]] = set()

    def note(self, function: Any, depth: int = 0) -> None:
        """Notes the plain values, containers and attributes that a function mentions, and those it could call mention.

        Raises:
            Unguardable: one of them draws random numbers, or cannot be compared.
        """
        function = _unwrapped(function)
        if function is None or id(function) in self._functions or depth > _DEPTH or is_library(function.__module__):
            return
        self._functions.add(id(function))
        self._kept.append(function)
        self._codes.update(_codes(function.__code__))
        names, known = names_of(function.__code__), function.__globals__
        source = known.get("__name__", "")
        of_module = known is getattr(sys.modules.get(source), "__dict__", None)
        for name in sorted(names - {"len"}):
            if name in known:
                self._value(known[name], Place((source, name), owner=None if of_module else known), names, depth)
            elif name in sys.modules and not is_library(name):  # imported by the function itself, or asked for by name
                self._module(sys.modules[name], names, depth)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # empty as yet
                continue
            self._value(value, Place((name,), (), cell), names, depth)

    def note_class(self, kind: type, function: Any, name: str | None = None) -> None:
        """Notes what a class holds of what a function mentions: numbers, and methods with what they mention.

        Args:
            kind: the class of a module, say.
            function: of Python.
            name: of a method of the class, or None.

        Raises:
            Unguardable: as :meth:`note`.
        """
        code = getattr(_unwrapped(function), "__code__", function)
        if (kind, code, name) in self._classes:
            return
        self._classes.add((kind, code, name))
        names = names_of(code) if isinstance(code, types.CodeType) else frozenset()
        names |= {name} if name is not None else frozenset()
        self._attributes(kind, kind.__mro__, Place((kind.__name__,), owner=kind), names, 0)

    def note_running(self, frame: types.FrameType) -> None:
        """Notes a function that begins to run, if nobody could tell that it would.

        Raises:
            Unguardable: as :meth:`note`.
        """
        code = frame.f_code
        if names_of(code) & ASK_CLASSES:
            for value in list(frame.f_locals.values()):
                if isinstance(value, nn.Module):
                    self.note_class(class_of(value), code)
        if code in self._codes:
            return
        self._codes.add(code)
        for function in gc.get_referrers(code):
            if isinstance(function, types.FunctionType) and function.__code__ is code:
                self._keep(Place((function.__name__,), owner=function), function)
                self.note(function)

    def changed(self) -> str | None:
        """The name of a value that is another now than when it was noted."""
        for place, before in self.seen.items():
            try:
                same = is_same(place.value(), before)
            except Exception:  # a proxy is in it, which is no value
                same = False
            if not same:
                return place.name
        return None

    def _keep(self, place: Place, value: Any, *, whole: bool = True) -> None:
        """Keeps a snapshot of what is at a place, or which object it is."""
        if place not in self.seen:
            self.seen[place] = snapshot(value, self.tensors) if whole else Itself(value)

    def _value(self, value: Any, place: Place, names: frozenset[str], depth: int) -> None:
        if depth > _DEPTH:
            return
        if draws(value):
            raise Unguardable(f"it has random numbers of its own ({place.name})")
        if isinstance(value, contextvars.ContextVar):
            raise Unguardable(f"it may read a variable of contexts ({place.name})")
        if isinstance(value, types.ModuleType):
            self._module(value, names, depth)
        elif is_plain(value):
            self._keep(place, value)
        elif isinstance(value, _CONTAINERS) or hasattr(type(value), "tobytes"):
            self._keep(place, value)
            for part in list(value.values() if isinstance(value, dict) else value) if len(value) < _MANY else ():
                self.note(part, depth + 1)
        elif _unwrapped(value) is not None:
            self._keep(place, value, whole=not hasattr(type(value), "cache_clear"))
            self.note(value, depth + 1)
        elif isinstance(value, type):
            self._keep(place, value)
            if not is_library(value.__module__):
                of_class: type = type(value)
                self._attributes(value, (*value.__mro__, *of_class.__mro__), place, names, depth)
        elif is_constant(value) or isinstance(value, Tensor):  # whose numbers are watched when they are asked for
            self._keep(place, value, whole=not isinstance(value, Tensor))
        elif isinstance(value, Iterator):
            raise Unguardable(f"it may read what is used up by being read ({place.name})")
        else:
            self._object(value, place, names, depth)

    def _module(self, module: types.ModuleType, names: frozenset[str], depth: int) -> None:
        if not is_library(module.__name__) and module.__name__ in sys.modules:
            for name in sorted(names & vars(module).keys()):
                self._value(vars(module)[name], Place((module.__name__, name)), names, depth + 1)

    def _object(self, value: Any, place: Place, names: frozenset[str], depth: int) -> None:
        """Notes which object it is, and its attributes that are mentioned; all, if they are asked for by any name."""
        kinds = type(value).__mro__
        self._keep(place, value, whole=False)
        plain = isinstance(value, nn.Module) or type(value).__module__ in ("types", "argparse")
        if is_library(type(value).__module__) and not plain:
            return
        names = _with_methods(names, kinds)
        found = {name: v for name, v in getattr(value, "__dict__", {}).items() if name not in _OF_MODULES}
        asks = {"__getattr__", "__getattribute__"}.intersection(
            n for k in kinds if not is_library(k.__module__) for n in vars(k)
        )
        if names & _BY_ANY_NAME or asks:
            names |= found.keys()
        for name in sorted(names & found.keys()):
            self._value(found[name], place.of(name), names, depth + 1)
        for name in sorted(names.intersection(s for k in kinds for s in _slots(k))):
            self._value(getattr(value, name, MISSING), place.of(name), names, depth + 1)
        self._attributes(value, kinds, place, names, depth)

    def _attributes(self, owner: Any, kinds: tuple[type, ...], place: Place, names: frozenset[str], depth: int) -> None:
        """Notes the attributes of classes that are mentioned, and the methods, those with a meaning for Python too."""
        names = _with_methods(names, kinds)
        for kind in kinds:
            if is_library(kind.__module__):
                continue
            for name, found in vars(kind).items():
                if not (_is_special(name, found) or (name in names and not name.startswith("__"))):
                    continue
                here = Place((kind.__name__,), (name,), owner=kind)
                read = _getter(found)
                if read is not None:
                    self._keep(here, found, whole=False) if isinstance(found, property) else None
                    self.note(read, depth + 1)
                elif _unwrapped(found) is not None:
                    self._keep(here, getattr(kind, name))
                    self._keep(place.of(name), getattr(owner, name))
                    self.note(found, depth + 1)
                elif not hasattr(type(found), "__get__"):
                    self._value(getattr(owner, name), place.of(name), names, depth + 1)
                elif not is_library(type(found).__module__):
                    raise Unguardable(f"it may read {kind.__name__}.{name}, which a descriptor gives")


_MANY = 10_000
_OF_MODULES = frozenset(vars(nn.Module()))


def _getter(found: Any) -> Any:
    """The function behind a property."""
    return (
        found.fget
        if isinstance(found, property)
        else getattr(found, "func", None)
        if isinstance(found, functools.cached_property)
        else None
    )


def _is_special(name: str, found: Any) -> bool:
    """Whether it is a method that Python calls by itself, for ``len(x)`` or ``x + 1``."""
    return name.startswith("__") and name not in _NOT_RUN and isinstance(found, types.FunctionType)


def _with_methods(names: frozenset[str], kinds: tuple[type, ...]) -> frozenset[str]:
    """The names, and those that the methods of classes mention which they name or which Python calls."""
    found = {name: f for kind in kinds[::-1] if not is_library(kind.__module__) for name, f in vars(kind).items()}
    known, todo = set(names), [*names, *(name for name, f in found.items() if _is_special(name, f))]
    while todo:
        value = found.get(todo.pop())
        function = _unwrapped(_getter(value) or value)
        new = (names_of(function.__code__) if function is not None else frozenset()) - known
        known |= new
        todo += new
    return frozenset(known)


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def is_library(module: str | None) -> bool:
    """Whether a module of Python is one of libraries whose settings decide nothing here."""
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
        elif hasattr(type(value), "cache_clear"):  # of functools.cache
            value = value.__wrapped__
        else:
            return None
    return None


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


@functools.lru_cache(maxsize=4096)
def names_of(code: types.CodeType) -> frozenset[str]:
    """The names that a function's code mentions, in functions within it and in text too, as ``getattr`` takes it."""
    found = {name for each in _codes(code) for name in each.co_names}
    for each in _codes(code):
        for constant in each.co_consts:
            for text in constant if isinstance(constant, tuple) else (constant,):
                if isinstance(text, str) and all(part.isidentifier() for part in text.split(".")):
                    found.update((text, *text.split(".")))
    return frozenset(found)
