"""Ways to call a module: the tensors in its arguments, and everything else in them as constants."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves

__all__ = ["Call", "NotPlainError", "is_plain"]

_PLAIN = (type(None), bool, int, float, complex, str, bytes, slice, type(...), range)
_PLAIN_TORCH = (torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format, enum.Enum)


def is_plain(value: object) -> bool:
    """Whether a value is a constant: it cannot change, and equals another of the same contents."""
    return type(value) in _PLAIN or isinstance(value, _PLAIN_TORCH)


class NotPlainError(Exception):
    """An argument that is neither a tensor, nor a constant, nor made of them; the message is its type's name."""


@dataclass(frozen=True)
class _Slot:
    """The place of a tensor: which of them, how many axes it has, and whether its numbers are real."""

    index: int
    ndim: int
    floating: bool


@dataclass(frozen=True)
class Call:
    """A way to call a module.

    Attributes:
        args: by position: a slot where there is a tensor, constants, and lists, tuples and dictionaries of them.
        kwargs: by name, likewise.
        tensors: how many tensors there are.
        plain: whether all arguments are tensors by position, as nearly always.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    tensors: int
    plain: bool

    @staticmethod
    def of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Call, list[Tensor]]:
        """The way a module is called with these arguments, and the tensors in them.

        Raises:
            NotPlainError: an argument is something else.
        """
        found: list[Tensor] = []
        spec = tuple(_spec(a, found) for a in args)
        named = {name: _spec(a, found) for name, a in kwargs.items()}
        plain = not named and all(isinstance(part, _Slot) for part in spec)
        return Call(spec, named, len(found), plain), found

    def match(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, proxies: bool = False) -> list[Tensor] | None:
        """The tensors of arguments of this kind; None where they are of another, or where a tensor is empty.

        Args:
            args: by position.
            kwargs: by name.
            proxies: whether a tracer's proxies will do as tensors.
        """
        if len(args) != len(self.args) or len(kwargs) != len(self.kwargs):
            return None
        found: list[Tensor] = []
        for spec, value in zip(self.args, args, strict=True):
            if not _matches(spec, value, found, proxies):
                return None
        for name, spec in self.kwargs.items():
            if name not in kwargs or not _matches(spec, kwargs[name], found, proxies):
                return None
        return found

    def ndims(self) -> list[int]:
        """Returns the number of axes of each of the tensors."""
        slots = [leaf for leaf in tree_leaves((self.args, dict(self.kwargs))) if isinstance(leaf, _Slot)]
        return [slot.ndim for slot in sorted(slots, key=lambda slot: slot.index)]

    def rebuild(self, tensors: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with other tensors in them."""
        return tuple(_built(a, tensors) for a in self.args), {k: _built(a, tensors) for k, a in self.kwargs.items()}


def _spec(value: Any, found: list[Tensor]) -> Any:
    if isinstance(value, Tensor):
        found.append(value)
        return _Slot(len(found) - 1, value.ndim, value.is_floating_point())
    if is_plain(value):
        return value
    if isinstance(value, Mapping):
        return _like(value, [(key, _spec(part, found)) for key, part in value.items()])
    if isinstance(value, list | tuple):
        return _like(value, [_spec(part, found) for part in value])
    raise NotPlainError(type(value).__name__)


def _like(value: Any, parts: list[Any]) -> Any:
    """A container of the kind of another."""
    if hasattr(value, "_fields"):  # a named tuple
        return type(value)(*parts)
    make: Callable[[Any], Any] = type(value) if type(value) in (list, tuple, dict) else _base(value)
    return make(parts)


def _base(value: Any) -> Callable[[Any], Any]:
    """The built-in container that stands for a subclass of it."""
    return next((kind for kind in (list, tuple) if isinstance(value, kind)), dict)


def _matches(spec: Any, value: Any, found: list[Tensor], proxies: bool) -> bool:
    if isinstance(spec, _Slot):
        if proxies and isinstance(value, fx.Proxy):
            found.append(value)  # type: ignore[arg-type]
            return True
        fits = isinstance(value, Tensor) and value.ndim == spec.ndim and value.is_floating_point() == spec.floating
        # Empty batches are left to PyTorch.
        if not fits or not value.numel():
            return False
        found.append(value)
        return True
    if isinstance(spec, dict):
        if not isinstance(value, Mapping) or value.keys() != spec.keys():
            return False
        return all(_matches(part, value[key], found, proxies) for key, part in spec.items())
    if isinstance(spec, list | tuple) and not isinstance(spec, torch.Size):
        if not isinstance(value, list if isinstance(spec, list) else tuple) or len(value) != len(spec):
            return False
        return all(_matches(part, each, found, proxies) for part, each in zip(spec, value, strict=True))
    return type(value) is type(spec) and value == spec


def _built(spec: Any, tensors: Sequence[Any]) -> Any:
    if isinstance(spec, _Slot):
        return tensors[spec.index]
    if isinstance(spec, dict):
        return {key: _built(part, tensors) for key, part in spec.items()}
    if isinstance(spec, list | tuple) and not isinstance(spec, torch.Size):
        parts = [_built(part, tensors) for part in spec]
        return type(spec)(*parts) if hasattr(spec, "_fields") else type(spec)(parts)
    return spec
