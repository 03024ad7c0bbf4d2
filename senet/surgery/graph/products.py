"""Finds gated products while a model runs: maps times a gate that is computed from the map's own average."""

from __future__ import annotations

import collections
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from senet.surgery.graph.ops import is_map, is_per_channel

__all__ = ["Products"]

_SMALL = 2**16  # of elements: values that may be averages of a map or gates are kept, all others are not
_RTOL = 1e-9


@dataclass(eq=False)
class _Value:
    """A tensor of a run.

    Attributes:
        parents: what it was computed from.
        numbers: a copy of its numbers, if they are few.
        reduced: whether it is a mean or a sum.
        tensor: itself, while it lives; a map that is written over is copied before.
        version: how often it had been written into.
        gated: the maps that it is a gated product of.
        root: what it is a view or a copy of, or None.
    """

    parents: tuple[_Value, ...] = ()
    numbers: Tensor | None = None
    reduced: bool = False
    tensor: Callable[[], Tensor | None] = lambda: None
    version: int = 0
    gated: frozenset[_Value] = frozenset()
    root: _Value | None = None

    def keep(self) -> None:
        """Keeps a copy of the tensor, which is to be written over."""
        if (copy := self.map()) is not None:
            copy = copy.detach().clone()
            self.tensor, self.version = lambda: copy, copy._version

    def map(self) -> Tensor | None:
        """The tensor, unless it is gone or was changed since."""
        tensor = self.tensor()
        return tensor if tensor is not None and tensor._version == self.version else None


class Products(TorchDispatchMode):
    """Calls back at each product of a map and a gate that is computed from the map's own average.

    The gate has one number for each channel of each image, and some value that it was computed from equals the average.
    It is a product by an operator's name, or by what comes out: a map whose channels are those of another, each times
    a number, however that was computed.
    """

    def __init__(self, found: Callable[[], None]) -> None:
        super().__init__()
        self.found = found
        self.known = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [a for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)]
        pairs: list[tuple[Tensor, Tensor]] = []
        if func.overloadpacket in _MULTIPLY and len(given) >= 2:
            pairs = [(given[-2], given[-1]), (given[-1], given[-2])]
        of = next((u for u, s in pairs if self._is_gated(u, s)), None)  # before an operator in place writes over them
        parents = tuple(map(self._value, given))
        for argument, tensor in zip(func._schema.arguments, args, strict=False):
            if isinstance(tensor, Tensor) and argument.alias_info is not None and argument.alias_info.is_write:
                self._value(tensor).keep()
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self.known[tensor] = value = _new(tensor, parents, reduced=func.overloadpacket in _REDUCE)
                if func.is_view or func.overloadpacket in _COPY:
                    value.root = parents[0].root or parents[0]
                self._mark(value, tensor, by_name=of is not None, viewed=func.is_view)
        return output

    def _value(self, tensor: Tensor) -> _Value:
        if tensor not in self.known:
            self.known[tensor] = _new(tensor, ())
        return self.known[tensor]

    def _is_gated(self, u: Tensor, s: Tensor) -> bool:
        if not is_map(u) or not is_per_channel(s, u):
            return False
        mean = u.mean(tuple(range(2, u.ndim))).flatten()
        start = self.known.get(s, None)
        # Of one pixel anything is the average, so an average must have been taken.
        return start is not None and _comes_from(start, mean, reduced=u.shape[2:].numel() == 1)

    def _mark(self, value: _Value, y: Tensor, *, by_name: bool, viewed: bool) -> None:
        """Notes the maps that a value is a gated product of, and calls back where it is one and what it is from not."""
        before = frozenset[_Value]().union(*(parent.gated for parent in value.parents))
        if viewed or not _has_numbers(y):
            value.gated = before
            return
        ancestors = _ancestors(value)
        alive = {v: u for v in ancestors if (u := v.map()) is not None and _has_numbers(u) and u.ndim > 1}
        same = (y.numel(), y.dtype, y.device)
        maps = {v: u for v, u in alive.items() if (u.numel(), u.dtype, u.device) == same}
        scaled = {(v, last) for v, u in maps.items() for last in (False, True) if _may_be_scaled(u, y, last)}
        value.gated = frozenset(v for v, _ in scaled)
        if by_name:
            self.found()
        elif value.gated & before:
            return
        elif any(_is_scaled(maps[v], y, mean, last) for v, last in scaled for mean in _averages(v, ancestors)):
            self.found()
        else:
            value.gated = frozenset()


_MULTIPLY = {torch.ops.aten.mul, torch.ops.aten.mul_, torch.ops.aten.addcmul, torch.ops.aten.addcmul_}


_REDUCE = {
    *(torch.ops.aten.mean, torch.ops.aten.sum, torch.ops.aten.avg_pool2d, torch.ops.aten.avg_pool3d),
    *(torch.ops.aten._adaptive_avg_pool2d, torch.ops.aten._adaptive_avg_pool3d),
}

_COPY = {torch.ops.aten.clone, torch.ops.aten._to_copy, torch.ops.aten._reshape_copy}

_FAR = 256  # values before another that may be its map or its map's average


def _has_numbers(tensor: Tensor) -> bool:
    """Whether a tensor is an ordinary one with real numbers in it."""
    strided = tensor.layout is torch.strided and not tensor.is_nested and tensor.device.type != "meta"
    return strided and tensor.is_floating_point() and tensor.numel() > 0


def _new(tensor: Tensor, parents: tuple[_Value, ...], *, reduced: bool = False) -> _Value:
    few = _has_numbers(tensor) and tensor.numel() <= _SMALL
    numbers = tensor.detach().clone() if few else None
    return _Value(parents, numbers, reduced, weakref.ref(tensor), tensor._version)


def _ancestors(value: _Value) -> list[_Value]:
    """The values that one was computed from, the nearest first."""
    seen, todo = {value}, collections.deque([value])
    found: list[_Value] = []
    while todo and len(found) < _FAR:
        for parent in todo.popleft().parents:
            if parent not in seen:
                seen.add(parent)
                found.append(parent)
                todo.append(parent)
    return found


def _averages(start: _Value, ancestors: list[_Value]) -> Iterator[Tensor]:
    """The numbers of those values that were computed from a map, as its average is."""
    after, changed = {start.root or start}, True
    while changed:
        new = {v for v in ancestors if v not in after and not after.isdisjoint(v.parents)}
        after, changed = after | new, bool(new)
    for value in after:
        if value.numbers is not None and value.numbers.numel() >= 2:
            yield value.numbers


def _may_be_scaled(u: Tensor, y: Tensor, last: bool) -> bool:
    """Whether neighbours in a map keep their ratio in another of as many numbers, at the ends of each image.

    Args:
        u: the map.
        y: the other.
        last: whether channels are the last axis, (N, ..., C), rather than before the positions in memory.
    """
    if last:
        if u.ndim < 3 or u.shape != y.shape or u.shape[1:-1].numel() < 2:
            return False
        pairs = [t.flatten(1, -2)[:, :2].unbind(1) for t in (u, y)]
    else:
        flat = [t.reshape(len(u), -1) for t in (u, y)]
        if flat[0].shape[1] < 2:
            return False
        pairs = [torch.cat((t[:, :2], t[:, -2:])).unbind(1) for t in flat]
    (a, b), (c, d) = pairs
    return torch.allclose(a * d, b * c, rtol=_RTOL, atol=1e-300)


def _is_scaled(u: Tensor, y: Tensor, mean: Tensor, last: bool) -> bool:
    """Whether a map's average is as given, and another is the map times numbers of each channel and image."""
    channels = mean.numel()
    if u.numel() % channels or u.numel() < 2 * channels or (last and channels != u.shape[0] * u.shape[-1]):
        return False
    of_u, of_y = ((t.flatten(1, -2).transpose(1, 2) if last else t).reshape(channels, -1) for t in (u, y))
    average, size = of_u.mean(1), float(of_u.abs().max())
    if float(average.abs().max()) <= 1e-8 * size or not _same(mean.flatten(), average):
        return False
    scale = (of_u * of_y).sum(1) / of_u.square().sum(1).clamp(min=1e-300)
    if not torch.allclose(of_y, scale[:, None] * of_u, rtol=_RTOL, atol=1e-12 * size):
        return False
    # Of each image on its own, and of each channel: drops of images and layer scale are no gates.
    images = len(mean) if len(mean) < channels else len(u)
    if channels % images or channels == images:
        return False
    scale = scale.view(images, -1)
    across = [scale - scale[:, :1], *([scale - scale[:1]] if len(scale) > 1 else [])]
    return all(float(each.abs().max()) > _RTOL for each in across)


def _same(numbers: Tensor, average: Tensor) -> bool:
    return torch.allclose(numbers, average, rtol=_RTOL, atol=1e-12)


def _comes_from(start: _Value, mean: Tensor, *, reduced: bool) -> bool:
    """Whether a value is computed from one that equals an average, by way of small values or its expansions."""
    seen, todo = {start}, [(start, 3)]
    while todo:
        value, wide_steps = todo.pop()
        if value.numbers is not None and value.numbers.numel() == mean.numel():
            same = _same(value.numbers.flatten(), mean)
            if same and (value.reduced or not reduced):
                return True
        if value.numbers is None:
            wide_steps -= 1
        if wide_steps > 0:
            for parent in value.parents:
                if parent not in seen:
                    seen.add(parent)
                    todo.append((parent, wide_steps))
    return False
