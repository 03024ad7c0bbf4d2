"""Values of Python that a forward read while it was traced, and whether they are still the same."""

from __future__ import annotations

import collections
import functools
import random
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from senet.surgery.graph.calls import is_plain

__all__ = ["MISSING", "Guards", "Itself", "Place", "Unguardable", "draws", "is_constant", "is_same", "snapshot"]

_CALLABLE = (types.BuiltinFunctionType, types.MethodType, type)
_MOST = 10_000  # objects in one that forward reads
_FEW = 16  # numbers of a tensor that forward may have asked for


class Unguardable(Exception):  # noqa: N818 - it is no error of the user's
    """A value that a graph cannot stand for; the message says which."""


class _Missing:
    """Stands for an attribute that is not there."""

    def __repr__(self) -> str:
        return "missing"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING = _Missing()


@dataclass(frozen=True)
class Place:
    """A way to a value outside of a module.

    Attributes:
        root: (name of a Python module, name of a global in it), or the name of a closure's variable or of the owner.
        path: names of attributes from there.
        cell: the closure's cell, or None.
        owner: the class or function that the path starts at, or the globals, of no Python module, in which the root
            is a name; or None.
    """

    root: tuple[str, ...]
    path: tuple[str, ...] = ()
    cell: types.CellType | None = None
    owner: Any = None

    def __hash__(self) -> int:
        return hash((self.root, self.path, id(self.cell), id(self.owner)))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Place)
            and (self.root, self.path) == (other.root, other.path)
            and (self.cell is other.cell and self.owner is other.owner)
        )

    @property
    def name(self) -> str:
        """The name in words."""
        return ".".join((self.root[-1], *self.path))

    def of(self, name: str) -> Place:
        """The place of an attribute of what is here."""
        return Place(self.root, (*self.path, name), self.cell, self.owner)

    def value(self) -> Any:
        """The value that is there now, or :data:`MISSING`."""
        if self.cell is not None:
            value = self.cell.cell_contents
        elif self.owner is not None:
            value = self.owner.get(self.root[-1], MISSING) if isinstance(self.owner, dict) else self.owner
        else:
            value = vars(sys.modules[self.root[0]]).get(self.root[1], MISSING)
        for name in self.path:
            value = getattr(value, name, MISSING)
        return value


@dataclass
class Guards:
    """Values of Python that a graph holds for.

    Attributes:
        attributes: (path of a module, name) -> a :func:`snapshot` of the attribute, or :data:`MISSING`.
        parts: (path of a module, name) -> whether that part, parameter or buffer is there, or None.
        outside: place of a global, a closure's variable or an attribute of one -> a snapshot.
        asked: name of a function of PyTorch without arguments, such as ``is_grad_enabled`` -> its answer.
        kinds: path of a part that forward may have asked for its class -> the class, or MISSING.
        square: whether the graph holds for square maps alone.
        no_autocast: whether the forward switches autocast off inside, which a graph does not show.
    """

    attributes: dict[tuple[str, str], Any] = field(default_factory=dict)
    parts: dict[tuple[str, str], bool] = field(default_factory=dict)
    outside: dict[Place, Any] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)
    kinds: dict[str, Any] = field(default_factory=dict)
    square: bool = False
    no_autocast: bool = False


@dataclass(frozen=True)
class _Seen:
    """An object as it was: its class, and snapshots of what is in it, each by a name, a key or a number."""

    index: int  # of the objects in a snapshot, as they were met
    kind: type
    contents: tuple[tuple[Any, Any], ...]


@dataclass(frozen=True)
class _Met:
    """Stands in the place of an object that a snapshot has already."""

    index: int


@dataclass(frozen=True)
class _Defined:
    """A function of Python as it was: the object, its code, and snapshots of its defaults."""

    function: types.FunctionType
    code: types.CodeType
    defaults: Any
    keywords: Any

    def is_now(self, value: Any) -> bool:
        """Whether a value is the function, as it was."""
        if value is not self.function or value.__code__ is not self.code:
            return False
        now, before = (value.__defaults__, value.__kwdefaults__), (self.defaults, self.keywords)
        return now == (None, None) == before or all(map(is_same, now, before))

    def __reduce__(self) -> Any:  # no pickle holds code; where it is loaded it is as it is there
        return snapshot, (self.function,)


class Itself:
    """An object that is told from others alone, whatever is in it."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Itself) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)

    def __reduce__(self) -> Any:
        raise TypeError("which object it is holds in one process")


def snapshot(value: Any, tensors: list[Tensor] | None = None) -> Any:
    """A value of Python in a form that can be kept and compared: itself if it cannot change, else its contents.

    Args:
        value: any.
        tensors: is given the tensors in it whose numbers are compared.

    Raises:
        Unguardable: it draws random numbers, is used up by being read, or holds more than can be compared each time.
    """
    return _taken(value, {}, [] if tensors is None else tensors)


def _taken(value: Any, met: dict[int, tuple[int, Any]], tensors: list[Tensor]) -> Any:
    if is_constant(value):
        return value
    if isinstance(value, types.FunctionType):
        defaults, keywords = (_taken(each, {}, tensors) for each in (value.__defaults__, value.__kwdefaults__))
        return _Defined(value, value.__code__, defaults, keywords)
    if _has_few(value):
        tensors.append(value)
    if id(value) in met and not isinstance(value, tuple):  # which are often one by chance, such as ()
        return _Met(met[id(value)][0])
    if len(met) == _MOST:
        kind = type(next(iter(met.values()))[1]).__name__
        raise Unguardable(f"it reads an object that holds more than {_MOST} others ({kind})")
    if draws(value):
        raise Unguardable(f"it has random numbers of its own ({type(value).__name__})")
    if isinstance(value, Iterator):
        raise Unguardable(f"it reads what is used up by being read ({type(value).__name__})")
    index, _ = met.setdefault(id(value), (len(met), value))  # kept, so that its id stays its own
    return _Seen(index, type(value), tuple((name, _taken(part, met, tensors)) for name, part in _contents(value)))


def is_same(value: Any, seen: Any) -> bool:
    """Whether a value is as it was when a snapshot was taken of it."""
    return seen.is_now(value) if type(seen) is _Defined else _is_same(value, seen, {})


def _is_same(value: Any, seen: Any, met: dict[int, Any]) -> bool:
    if isinstance(seen, _Met):
        return met.get(seen.index) is value
    if isinstance(seen, Itself):
        return value is seen.value
    if isinstance(seen, _Defined):
        return seen.is_now(value)
    if not isinstance(seen, _Seen):
        return type(value) is type(seen) and bool(value == seen)
    if type(value) is not seen.kind:
        return False
    met[seen.index] = value
    now = _contents(value)
    if len(now) != len(seen.contents):
        return False
    for (name, part), (known, before) in zip(now, seen.contents, strict=True):
        if name != known or not _is_same(part, before, met):
            return False
    return True


def _contents(value: Any) -> list[tuple[Any, Any]]:
    """Lists the contents of an object, one level deep."""
    if isinstance(value, nn.Module):  # in a list, say, as parts are no attributes
        kept = (*vars(value).items(),)
        return [(name, part) for name, part in kept if is_constant(part) or isinstance(part, types.FunctionType)]
    if isinstance(value, Tensor):
        return [("shape", value.shape), ("numbers", str(value.detach().tolist()) if _has_few(value) else None)]
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, set | frozenset):
        return [("set", tuple(sorted(map(repr, value))))]
    if isinstance(value, list | tuple | collections.deque):
        return list(enumerate(value))
    if isinstance(value, functools.partial):
        return [("func", value.func), ("args", value.args), ("keywords", value.keywords)]
    if hasattr(value, "tobytes"):  # an array
        return [("shape", getattr(value, "shape", ())), ("bytes", value.tobytes())]
    return [(name, getattr(value, name)) for name in _names(value) if hasattr(value, name)]


def _has_few(value: object) -> bool:
    """Whether a value is a tensor whose numbers are few enough to be compared."""
    if not isinstance(value, Tensor) or isinstance(value, nn.Parameter):
        return False
    return value.numel() <= _FEW and not value.is_meta


def _names(value: object) -> list[str]:
    """The names of an object's own attributes, in its dictionary or in slots."""
    names = list(getattr(value, "__dict__", ()))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    return [name for name in names if not name.startswith("__")]


def draws(value: object) -> bool:
    """Whether a value gives random numbers."""
    numpy = sys.modules.get("numpy")
    kinds: list[type] = [random.Random, torch.Generator]
    if numpy is not None:
        kinds += [numpy.random.Generator, numpy.random.RandomState, numpy.random.BitGenerator]
    return isinstance(value, tuple(kinds))


def is_constant(value: Any) -> bool:
    """Whether a value is its own snapshot, which can be compared with it directly: it cannot change."""
    if type(value) is tuple:
        return all(type(part) in (int, str, float) for part in value)
    return is_plain(value) or isinstance(value, _CALLABLE) or value is MISSING
