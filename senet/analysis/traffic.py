"""Traffic of a step: operators launched, bytes read, bytes written, passes over a wide map. Counted, never timed.

Squeeze and scale have almost no arithmetic; what they cost is passes over the map that they gate. Eager PyTorch runs
one operator after another, and each reads its operands from memory and writes its results back, so that shapes alone
say what is moved:

* each tensor that an operator is given is read once, whole, even if given twice; memory that an expanded tensor
  repeats is read once;
* each tensor that it makes or changes is written once; what it changes it reads too, unless it only overwrites;
* a view, an allocation or a question moves nothing and launches nothing;
* the few operators that go over an operand more often, or not at all, or over one that only they see, are in the
  tables of :mod:`senet.analysis.operators`.

Caches are not modelled: on maps that do not fit in one, this is the traffic with memory. Nor can kernels that
``torch.compile`` makes be counted: they are no operators, and where operators are counted PyTorch runs eager code.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from senet.analysis.operators import elements, reads, writes
from senet.errors import InputError

__all__ = ["Moved", "Places", "Row", "Traffic", "rows_of", "traffic"]


@dataclass(frozen=True)
class Moved:
    """Traffic of operators. Amounts can be added.

    Attributes:
        launches: operators that computed something, each counted once however many kernels it is.
        read: bytes.
        written: bytes.
        wide: elements read and written, of the tensors that have as many as was asked for.
    """

    launches: int = 0
    read: int = 0
    written: int = 0
    wide: int = 0

    def __add__(self, other: Moved) -> Moved:
        return Moved(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Row:
    """Traffic of one operator for one module, all its calls together.

    Attributes:
        module: the innermost module's name in the model; ``""`` for the model itself and what is outside of it.
        operator: namespace and name, such as ``"aten.mul"``.
        backward: whether autograd ran it.
        moved: what it moved.
    """

    module: str
    operator: str
    backward: bool
    moved: Moved


@dataclass(frozen=True)
class Traffic:
    """Traffic of a call.

    Attributes:
        rows: by module, operator and direction, in the order of the first call of each.
        wide: the elements from which on a tensor counts as wide.
    """

    rows: tuple[Row, ...]
    wide: int

    def total(self, module: str = "", *, operator: str | None = None, backward: bool | None = None) -> Moved:
        """The sum of the rows of a module with all it holds; of one operator or direction if asked for."""
        chosen = (
            row.moved
            for row in self.rows
            if (not module or row.module == module or row.module.startswith(f"{module}."))
            and operator in (None, row.operator)
            and backward in (None, row.backward)
        )
        return sum(chosen, Moved())

    def passes(self, module: str = "", *, operator: str | None = None, backward: bool | None = None) -> float:
        """Number of reads and writes of a map of ``wide`` elements that would move as much."""
        return self.total(module, operator=operator, backward=backward).wide / self.wide


def traffic(call: Callable[[], object], model: nn.Module | None = None, *, wide: int = 1) -> Traffic:
    """Runs a call and counts what its operators move, in forward and in any backward that it runs.

    The operators are those that PyTorch dispatches on that device; ``"meta"`` will do where nothing needs a value. A
    backward's rows have the module whose forward made the graph's node, where the same call ran both; the sum of a
    tensor's gradients belongs to the use that gave the last of them. Parts that backward computes again
    (checkpointing) are counted, but which module their gradients are of is not known.

    Args:
        call: what to run.
        model: whose modules' names the rows have.
        wide: elements from which on a tensor counts in :attr:`Moved.wide`, such as those of the map of interest.

    Raises:
        InputError: ``wide`` is less than 1.
    """
    if wide < 1:
        raise InputError(f"wide is {wide}; accepted: a number of elements, 1 or more")
    return Traffic(rows_of(call, model, lambda _module, t: elements(t) >= wide), wide)


def rows_of(
    call: Callable[[], object], model: nn.Module | None, is_wide: Callable[[str, Tensor], bool]
) -> tuple[Row, ...]:
    """The rows of :func:`traffic`, where which tensors are wide depends on the module.

    Args:
        call: what to run.
        model: whose modules' names the rows have.
        is_wide: whether a tensor counts in :attr:`Moved.wide` of a module of such a name.
    """
    with Places.of(model) as places, _Counter(places, is_wide) as counter:
        call()
    return tuple(Row(module, operator, back, moved) for (module, operator, back), moved in counter.rows.items())


class Places:
    """Finds the module that an operator runs for: by forward hooks, in backward by the age of the graph's nodes.

    Autograd numbers the nodes of a thread's graph as forward makes them, so the numbers at which a module's forward
    begins and ends say which nodes are its own.
    """

    def __init__(self) -> None:
        self._inside: list[str] = []
        self._ages: list[int] = []
        self._modules: list[str] = []

    @classmethod
    @contextmanager
    def of(cls, model: nn.Module | None) -> Iterator[Places]:
        """Follows the model's forwards by hooks that are not its own: with such, a fused module runs unfused."""
        places = cls()
        if model is None:
            yield places
            return
        names = {module: name for name, module in model.named_modules()}

        def enter(module: nn.Module, _args: Any) -> None:
            if module in names:
                places._enter(names[module])

        def leave(module: nn.Module, _args: Any, _output: Any) -> None:
            if module in names:
                places._leave()

        enter.counts_as_it_is = leave.counts_as_it_is = True  # type: ignore[attr-defined]  # fused modules run fused
        handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
        try:
            yield places
        finally:
            for handle in handles:
                handle.remove()

    def here(self) -> str:
        """The module of the operator that runs now."""
        if self._inside:
            return self._inside[-1]
        node = torch._C._current_autograd_node()
        index = 0 if node is None else bisect_right(self._ages, node._sequence_nr())
        return self._modules[index - 1] if index else ""

    def _enter(self, name: str) -> None:
        self._inside.append(name)
        self._mark()

    def _leave(self) -> None:
        self._inside.pop()
        self._mark()

    def _mark(self) -> None:
        if not _in_backward():  # what backward runs again may be numbered by another thread
            self._ages.append(torch.autograd._get_sequence_nr())
            self._modules.append(self._inside[-1] if self._inside else "")


def _in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1


class _Counter(TorchDispatchMode):
    def __init__(self, places: Places, is_wide: Callable[[str, Tensor], bool]) -> None:
        super().__init__()
        self.rows: dict[tuple[str, str, bool], Moved] = {}
        self._places, self._is_wide = places, is_wide

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # a tensor without memory is asked for its device
            return func(*args, **kwargs)
        with self:  # in inference mode composite operators arrive whole
            out = func.decompose(*args, **kwargs)
        if out is not NotImplemented:
            return out
        out = func(*args, **kwargs)
        given = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | kwargs
        read, written = reads(func, given), writes(func, given, out)
        if written:
            moved = [*read, *((t, 1) for t in written)]
            module = self._places.here()
            key = (module, str(func.overloadpacket), _in_backward())
            self.rows[key] = self.rows.get(key, Moved()) + Moved(
                launches=1,
                read=sum(times * elements(t) * t.element_size() for t, times in read),
                written=sum(elements(t) * t.element_size() for t in written),
                wide=sum(times * elements(t) for t, times in moved if self._is_wide(module, t)),
            )
        return out
