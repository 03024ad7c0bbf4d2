"""Values of Python that a forward read while it was traced, and whether they are still the same."""

from __future__ import annotations

import functools
import random
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from senet.surgery.graph.calls import is_plain

__all__ = ["MISSING", "Guards", "Unguardable", "is_constant", "snapshot"]

_CALLABLE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, type)
_DEPTH = 4


class Unguardable(Exception):  # noqa: N818 - it is no error of the user's
    """A value that a graph cannot stand for; the message says which."""


class _Missing:
    """Stands for an attribute that is not there."""

    def __repr__(self) -> str:
        return "missing"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING = _Missing()


@dataclass
class Guards:
    """Values of Python that a graph holds for.

    Attributes:
        attributes: (path of a module, name) -> a :func:`snapshot` of the attribute, or :data:`MISSING`.
        parts: (path of a module, name) -> whether that part, parameter or buffer is there, or None.
        names: (name of a Python module, name of a global in it) -> a snapshot.
        no_autocast: whether the forward switches autocast off inside, which a graph does not show.
    """

    attributes: dict[tuple[str, str], Any] = field(default_factory=dict)
    parts: dict[tuple[str, str], bool] = field(default_factory=dict)
    names: dict[tuple[str, str], Any] = field(default_factory=dict)
    no_autocast: bool = False


def snapshot(value: Any, depth: int = 0) -> Any:
    """A value of Python in a form that can be kept and compared: itself if it cannot change, else its contents.

    Raises:
        Unguardable: it draws random numbers.
    """
    if is_constant(value):
        return value
    if depth > _DEPTH:
        return type(value)
    inner = functools.partial(snapshot, depth=depth + 1)
    if isinstance(value, nn.Module):
        return type(value)
    if isinstance(value, Tensor):
        return (type(value), value.shape, value.dtype)
    if isinstance(value, Mapping):
        return (type(value), tuple((key, inner(part)) for key, part in value.items()))
    if isinstance(value, list | tuple):
        return (type(value), tuple(map(inner, value)))
    if isinstance(value, set | frozenset):
        return (type(value), frozenset(value))
    if isinstance(value, functools.partial):
        return (value.func, inner(value.args), inner(value.keywords))
    if _draws(value):
        raise Unguardable(f"it has random numbers of its own ({type(value).__name__})")
    if hasattr(value, "tobytes"):  # an array
        return (type(value), getattr(value, "shape", ()), value.tobytes())
    return (type(value), inner(vars(value)) if hasattr(value, "__dict__") else None)


def _draws(value: object) -> bool:
    numpy = sys.modules.get("numpy")
    kinds: list[type] = [random.Random, torch.Generator]
    if numpy is not None:
        kinds += [numpy.random.Generator, numpy.random.RandomState, numpy.random.BitGenerator]
    return isinstance(value, tuple(kinds))


def is_constant(value: Any) -> bool:
    """Whether a snapshot can be compared with the value itself."""
    return is_plain(value) or isinstance(value, _CALLABLE) or value is MISSING
