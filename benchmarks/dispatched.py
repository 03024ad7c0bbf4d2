"""The gated products that a run of any network dispatches: an oracle that shares no code with senet's own reading.

A gated product multiplies a map u (N, C, *space), of one to three axes and more than one pixel, by one number for each
channel of each image that depends on the input through the global average of u. Which values are averages, and what
depends on what, is read from the operators of one run in float64, whatever the modules are called and however their
forward is written. A product is known by its operator or, as of matrices and of convolutions, by its outcome: each row
of pixels is parallel to the map's own.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Account", "Product", "account", "counted", "gated_products", "may_have_gates", "prepared"]

_aten = torch.ops.aten
# The factors among the arguments; of a division, the map comes first.
_FACTORS = {_aten.mul: (0, 1), _aten.mul_: (0, 1), _aten.addcmul: (1, 2), _aten.addcmul_: (1, 2)}
_QUOTIENTS = {_aten.div: (0, 1), _aten.div_: (0, 1), _aten.addcdiv: (1, 2), _aten.addcdiv_: (1, 2)}
_KEPT = 1 << 14  # numbers that are kept of any value; of what came from more numbers, _REDUCED
_REDUCED = 1 << 19
_RTOL = 1e-11


@dataclass(frozen=True)
class Product:
    """One product of a map with its gate, as it is written in a module.

    Attributes:
        path: the innermost module whose forward dispatched it; "" is the network itself.
        index: which of the gated products of one call of that module it is, from 0.
        kind: ``"average"`` if the gate depends on the input through the average alone; ``"more"`` if it sees more;
            ``"last"`` if the map has its channels last, (N, *space, C).
        shape: of the map.
        calls: how often it was dispatched, for a module may be called several times.
    """

    path: str
    index: int
    kind: str
    shape: tuple[int, ...]
    calls: int = 1


@dataclass(eq=False)
class _Value:
    """A tensor as it was after one operator: what it came from, and its numbers if they are few."""

    at: int
    parents: tuple[_Value, ...] = ()
    numbers: Tensor | None = None
    is_input: bool = False
    tensor: Any = None  # a weak reference, or a copy of what was to be written over
    version: int = -1
    bases: frozenset[_Value] = frozenset()  # maps that it is parallel to

    def alive(self) -> Tensor | None:
        tensor = self.tensor() if isinstance(self.tensor, weakref.ref) else self.tensor
        return tensor if tensor is not None and tensor._version == self.version else None


@dataclass
class _Call:
    path: str
    products: int = 0


class _Watch(TorchDispatchMode):
    """Follows values that depend on the input from operator to operator, and finds the gated products among them."""

    def __init__(self, *, shapes_alone: bool = False) -> None:
        super().__init__()
        self.shapes_alone = shapes_alone
        self.calls = [_Call("")]
        self.found: dict[tuple[str, int], Product] = {}
        self._clock = itertools.count()
        self._written: dict[int, tuple[StorageWeakRef, _Value]] = {}

    def begin(self, inputs: Any) -> None:
        """Marks tensors as the network's input."""
        for tensor in tree_leaves(inputs):
            if isinstance(tensor, Tensor):
                self._note(tensor, _Value(next(self._clock), is_input=True))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        parents = self._parents((args, kwargs))
        named = bool(parents) and self._look(func.overloadpacket, args)
        written = [
            tensor
            for argument, given in zip(func._schema.arguments, args, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
            for tensor in tree_leaves(given)
            if isinstance(tensor, Tensor)
        ]
        for tensor in written:
            value = self._value(tensor)
            if value is not None and value.alive() is not None:
                value.tensor = tensor.detach().clone()
                value.version = value.tensor._version
        output = func(*args, **kwargs)
        if not parents:
            return output
        now = next(self._clock)
        largest = max(each.numel() for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                value = _Value(now, parents, _numbers(tensor, largest))
                self._look_at_outcome(value, tensor, named=named, viewed=func.is_view)
                self._note(tensor, value)
        for tensor in written:
            value = _Value(now, parents, _numbers(tensor, largest))
            value.bases = getattr(self._value(tensor), "bases", frozenset())
            self._write(tensor, value)
        return output

    def _note(self, tensor: Tensor, value: _Value) -> None:
        value.tensor, value.version = weakref.ref(tensor), tensor._version
        tensor._dispatched = (self, value)  # type: ignore[attr-defined]  # lives as long as the tensor does

    def _write(self, tensor: Tensor, value: _Value) -> None:
        """A tensor was written into: so were all that share its memory."""
        self._note(tensor, value)
        storage = tensor.untyped_storage()
        # The weak reference keeps the address from being given to another storage.
        self._written[storage._cdata] = (StorageWeakRef(storage), value)

    def _parents(self, given: Any) -> tuple[_Value, ...]:
        found = (self._value(tensor) for tensor in tree_leaves(given) if isinstance(tensor, Tensor))
        return tuple(dict.fromkeys(value for value in found if value is not None))

    def _value(self, tensor: Tensor) -> _Value | None:
        """What a tensor is now; None if it does not depend on the input."""
        owner, value = getattr(tensor, "_dispatched", (None, None))
        own = value if owner is self else None
        if tensor.layout is not torch.strided:
            return own
        _, written = self._written.get(tensor.untyped_storage()._cdata, (None, None))
        if written is None or (own is not None and own.at >= written.at):
            return own
        parents = (written,) if own is None else (own, written)
        now = _Value(next(self._clock), parents, _numbers(tensor, tensor.numel()))
        self._note(tensor, now)
        return now

    def _look(self, operator: Any, args: Sequence[Any]) -> bool:
        """Notes a gated product, if an operator is one by its name."""
        at = _FACTORS.get(operator) or _QUOTIENTS.get(operator)
        if at is None or len(args) <= at[1]:
            return False
        one, other = (args[index] for index in at)
        for u, gate in ((one, other), (other, one)) if operator in _FACTORS else ((one, other),):
            kind = self._kind(u, gate)
            if kind is not None:
                self._found(kind, tuple(u.shape))
                return True
        return False

    def _found(self, kind: str, shape: tuple[int, ...]) -> None:
        call = self.calls[-1]
        key = (call.path, call.products)
        call.products += 1
        before = self.found.get(key)
        self.found[key] = Product(*key, kind, shape, 1 if before is None else before.calls + 1)

    def _look_at_outcome(self, value: _Value, tensor: Tensor, *, named: bool, viewed: bool) -> None:
        """Notes a gated product by its outcome: rows of pixels that are parallel to those of a map before it."""
        inherited = frozenset(base for parent in value.parents for base in parent.bases)
        if viewed:
            value.bases = inherited
            return
        if self.shapes_alone or not tensor.is_floating_point() or tensor.numel() < 4:
            return
        before = _history(value)
        parallel = {}
        for base in before:
            u = base.alive()
            if u is None or u.numel() != tensor.numel() or u.dtype != tensor.dtype or u.layout is not torch.strided:
                continue
            for small in before:
                rows = _rows_of(u, tensor, small.numbers)
                if rows is not None:
                    parallel[base] = tuple(u.shape), rows
                    break
        value.bases = frozenset(parallel)
        if parallel and not named and not inherited & value.bases:
            shape, last = next(iter(parallel.values()))
            self._found("last" if last else self._outcome_kind(value, parallel), shape)

    def _outcome_kind(self, value: _Value, maps: Iterable[_Value]) -> str:
        """The kind of a product that is known by its outcome: whether it sees the input by another way too."""
        seen, todo = {value, *maps}, [value]
        while todo:
            for parent in todo.pop().parents:
                if parent.is_input:
                    return "more"
                if parent not in seen:
                    seen.add(parent)
                    todo.append(parent)
        return "average"

    def _kind(self, u: Any, gate: Any) -> str | None:
        """Whether a value gates a map by the map's own average, alone or with more."""
        if not (isinstance(u, Tensor) and isinstance(gate, Tensor) and u.is_floating_point() and 3 <= u.ndim <= 5):
            return None
        parents = self._parents(gate)
        if not parents or not self._parents(u):
            return None
        kind = self._seen(u, gate, parents, range(2, u.ndim))
        if kind is None and u.shape[-1] > 1 and self._seen(u, gate, parents, range(1, u.ndim - 1)):
            return "last"
        return kind

    def _seen(self, u: Tensor, gate: Tensor, parents: Sequence[_Value], space: range) -> str | None:
        """The same, of a map whose pixels lie along some axes."""
        if math.prod(u.shape[axis] for axis in space) < 2 or not _may_gate(gate, u, space):
            return None
        if self.shapes_alone:
            return "average"
        if not _one_a_channel(gate, space):
            return None
        average = u.detach().mean(tuple(space))
        allowed = _RTOL * float(u.detach().abs().max())
        if float(average.abs().max()) <= 1e3 * allowed:  # as good as zero: everything small would be it
            return None
        seen, todo, averages, sees_more = set(parents), list(parents), 0, False
        while todo:
            value = todo.pop()
            if _equals(value.numbers, average, allowed):
                averages += 1
                continue
            sees_more |= value.is_input
            new = [parent for parent in value.parents if parent not in seen]
            seen.update(new)
            todo += new
        return None if not averages else "more" if sees_more else "average"


def _numbers(tensor: Tensor, largest: int) -> Tensor | None:
    """A copy, if it may be an average: of few numbers, or of fewer than the operator was given."""
    if not tensor.is_floating_point() or tensor.layout is not torch.strided:
        return None
    numel = tensor.numel()
    return tensor.detach().clone() if numel <= _KEPT or numel < min(largest, _REDUCED) else None


def _history(value: _Value, most: int = 300) -> list[_Value]:
    """The values before one, those of few steps first."""
    found: dict[_Value, None] = {}
    level = [value]
    while level and len(found) < most:
        level = [parent for each in level for parent in each.parents if parent not in found]
        found.update(dict.fromkeys(level))
    return list(found)


def _rows_of(u: Tensor, y: Tensor, average: Tensor | None) -> bool | None:
    """Whether channels are last in a map of that average, to whose rows of pixels those of y are parallel; or None.

    Rows are parallel where they are one row when their lengths are 1. The factors between them have to differ among
    channels and among images.
    """
    if average is None or average.numel() < 2 or u.numel() % average.numel() or u.numel() < 2 * average.numel():
        return None
    for last in (False, True):
        if last and (u.ndim < 3 or u.shape != y.shape or average.numel() != u.shape[0] * u.shape[-1]):
            continue
        a, b = ((t.movedim(-1, 1) if last else t).detach().reshape(average.numel(), -1) for t in (u, y))
        own, allowed = a.mean(1), _RTOL * float(a.abs().max())
        if float(own.abs().max()) <= 1e3 * allowed or float((own - average.flatten()).abs().max()) > allowed:
            continue
        dot, aa, bb = (a * b).sum(1), a.square().sum(1), b.square().sum(1)
        one, other = (t / n.sqrt().clamp(min=1e-150)[:, None] for t, n in ((a, aa), (b * dot.sign()[:, None], bb)))
        if float(torch.where((bb > 0)[:, None], one - other, 0).abs().max()) > 1e-10 or not bool(bb.any()):
            continue
        images = average.shape[0] if average.shape[0] < average.numel() else u.shape[0]
        if average.numel() % images or average.numel() == images:  # one number an image
            continue
        factors = (dot / aa.clamp(min=1e-300)).view(images, -1)
        among = [factors.amax(1) - factors.amin(1)] + [factors.amax(0) - factors.amin(0)] * (images > 1)
        if all(float(spread.max()) > 1e-9 for spread in among):
            return last
    return None


def _may_gate(gate: Tensor, u: Tensor, space: range) -> bool:
    """Whether a value has the shape of a gate, or one that a gate was expanded to."""
    if gate.ndim != u.ndim:
        return False
    return all(gate.shape[axis] == n or (axis in space and gate.shape[axis] == 1) for axis, n in enumerate(u.shape))


def _one_a_channel(gate: Tensor, space: range) -> bool:
    """Whether a value has one number for each channel of each image, also where it was expanded over the map."""
    numbers = gate.detach()
    for axis in space:
        first = numbers.narrow(axis, 0, 1)
        last = numbers.narrow(axis, numbers.shape[axis] - 1, 1)
        if not torch.equal(first, last) or not bool((numbers == first).all()):
            return False
    return True


def _equals(numbers: Tensor | None, average: Tensor, allowed: float) -> bool:
    if numbers is None or numbers.numel() != average.numel() or numbers.dtype != average.dtype:
        return False
    return any(float((numbers.flatten() - each.flatten()).abs().max()) <= allowed for each in (average, average.t()))


@contextmanager
def _paths(model: nn.Module, watch: _Watch) -> Iterator[None]:
    """Keeps the calls of modules that run, by hooks."""

    def before(path: str) -> Any:
        return lambda *_: watch.calls.append(_Call(path))

    def after(*_: Any) -> None:
        watch.calls.pop()

    with ExitStack() as stack:
        for path, module in model.named_modules():
            stack.enter_context(_removed(module.register_forward_pre_hook(before(path))))
            stack.enter_context(_removed(module.register_forward_hook(after, always_call=True)))
        yield


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def gated_products(model: nn.Module, *args: Any, **kwargs: Any) -> list[Product]:
    """The gated products of one run of a network, in the order in which they were dispatched first.

    The network runs as it is; see :func:`prepared`. What it is given should be float64, at least two different images.

    Args:
        model: any network.
        args: what its forward takes.
        kwargs: what its forward takes by name.
    """
    watch = _Watch()
    with torch.no_grad(), _paths(model, watch):
        watch.begin((args, kwargs))
        with watch:
            model(*args, **kwargs)
    return list(watch.found.values())


def may_have_gates(model: nn.Module, *args: Any) -> bool:
    """Whether a network dispatches a product with shapes of a map and a gate, or of two maps; values are not looked at.

    Products that are known by their outcome alone, as of matrices, need values and are not told.

    It may lie on the device "meta", where a run costs nothing.
    """
    watch = _Watch(shapes_alone=True)
    with torch.no_grad(), _paths(model, watch):
        watch.begin(args)
        with watch:
            model(*args)
    return bool(watch.found)


def prepared(model: nn.Module, *args: Any, seed: int = 0, **kwargs: Any) -> nn.Module:
    """Puts a network into float64 and evaluation, with weights that hide nothing, and gives it back.

    Parameters that are all one number become random around it, so that no norm, bias or gain that begins as zero or one
    hides what is before it. Given an input, norms with running statistics take those of what they see in one run,
    times random numbers: the values of a deep network neither vanish nor grow.
    """
    random = torch.Generator().manual_seed(seed)
    model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if (
                parameter.numel()
                and parameter.is_floating_point()
                and bool((parameter == parameter.flatten()[0]).all())
            ):
                _spread(parameter, random)
        norms = [module for module in model.modules() if _has_statistics(module)]
        for norm in norms:
            norm.running_mean.uniform_(-0.5, 0.5, generator=random)
            norm.running_var.uniform_(0.5, 1.5, generator=random)
        if args or kwargs:
            with ExitStack() as stack:
                for norm in norms:
                    stack.enter_context(_removed(norm.register_forward_pre_hook(_takes_statistics(random))))
                model(*args, **kwargs)
    return model


def _spread(parameter: Tensor, random: torch.Generator) -> None:
    start = float(parameter.flatten()[0])
    if abs(start) > 0.01:
        parameter.copy_(start * torch.empty_like(parameter).uniform_(0.5, 1.5, generator=random))
    elif parameter.ndim < 2:
        parameter.uniform_(0.2, 0.5, generator=random)
    else:
        bound = 1 / math.sqrt(max(1, parameter[0].numel()))
        parameter.uniform_(-bound, bound, generator=random)


def _has_statistics(module: nn.Module) -> bool:
    return all(isinstance(module._buffers.get(name), Tensor) for name in ("running_mean", "running_var"))


def _takes_statistics(random: torch.Generator) -> Any:
    def hook(norm: nn.Module, args: tuple[Any, ...]) -> None:
        x = args[0] if args else None
        if not (isinstance(x, Tensor) and x.ndim >= 2 and x.shape[1] == norm.running_mean.numel()):
            return
        axes = [axis for axis in range(x.ndim) if axis != 1]
        var, mean = torch.var_mean(x, axes, correction=0)
        norm.running_mean.copy_(mean + 0.2 * var.sqrt() * torch.empty_like(mean).uniform_(-1, 1, generator=random))
        norm.running_var.copy_((var + 1e-2) * torch.empty_like(var).uniform_(0.5, 1.5, generator=random))

    return hook


@dataclass
class Account:
    """What was said of each gated product, and of what is none.

    Attributes:
        said: of each product, the row that was said of it: (path, words).
        silent: products of which nothing was said.
        others: rows that are about no product, or about one that has a row already.
    """

    said: dict[Product, tuple[str, str]] = field(default_factory=dict)
    silent: list[Product] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)


def account(products: Iterable[Product], rows: Iterable[tuple[str, str]]) -> Account:
    """Sets rows (path, words) beside gated products, each row for one product and each product with one row.

    A row may name the module that dispatched the product, one inside it that gives the gate, or one around it.
    The nearest go together. Of a product that was dispatched several times there may be as many rows with the same
    path.
    """
    products, rows = list(products), list(rows)
    near = sorted(
        (distance, p, r)
        for p, product in enumerate(products)
        for r, (path, _) in enumerate(rows)
        if (distance := _distance(product.path, path)) is not None
    )
    taken_products: dict[int, int] = {}
    taken_rows: set[int] = set()
    for _, p, r in near:
        if p not in taken_products and r not in taken_rows:
            taken_products[p] = r
            taken_rows.add(r)
    for p, r in taken_products.items():
        again = [other for other, (path, _) in enumerate(rows) if other not in taken_rows and path == rows[r][0]]
        taken_rows.update(again[: products[p].calls - 1])
    return Account(
        {products[p]: rows[r] for p, r in sorted(taken_products.items())},
        [product for p, product in enumerate(products) if p not in taken_products],
        [row for r, row in enumerate(rows) if r not in taken_rows],
    )


def _distance(product: str, path: str) -> int | None:
    """Steps between two modules of which one is around the other, or both are the same; None for others."""
    path = path.partition(":")[0].removeprefix("the model")  # as reports call it; of a second gate the name ends in :2
    one, other = (tuple(filter(None, each.split("."))) for each in (product, path))
    common = min(len(one), len(other))
    return abs(len(one) - len(other)) if one[:common] == other[:common] else None


def counted(products: Iterable[Product]) -> Mapping[str, int]:
    """How many there are of each kind."""
    return dict(Counter(product.kind for product in products))
