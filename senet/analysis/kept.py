"""Memory that autograd keeps for backward: a training step holds it between its two halves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_leaves

from senet.analysis.traffic import Places

__all__ = ["Held", "Kept", "kept"]


@dataclass(frozen=True)
class Held:
    """Memory that is kept once, for all who want it.

    Attributes:
        shape: of the first tensor in it that was kept.
        dtype: of that tensor.
        bytes: the whole memory, also where the tensor is only a part of it.
        module: the innermost module whose forward kept it first; ``""`` for the model itself and outside of it.
        by: the graph's nodes that keep it, such as ``"ReluBackward0"``; none where the call's result leads to none.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    bytes: int
    module: str
    by: tuple[str, ...]


@dataclass(frozen=True)
class Kept:
    """All that a call keeps, the largest first."""

    held: tuple[Held, ...]

    @property
    def bytes(self) -> int:
        """The sum."""
        return sum(held.bytes for held in self.held)


def kept(call: Callable[[], object], model: nn.Module | None = None, *given: Tensor) -> Kept:
    """Runs a call and adds up the memory that autograd keeps of it, each storage once.

    What a call keeps and gives back before it ends counts as well, so let it run forward alone, and return what
    backward would start from: ``kept(lambda: model(x), model, x)``. Of a compiled function, whose modules cannot be
    told apart, give the tensors alone: ``kept(lambda: compiled(x), None, x, *model.parameters(), *model.buffers())``.

    Args:
        call: what to run.
        model: whose parameters and buffers are not counted, as they are there anyway; its modules' names are used.
        given: other tensors that are not counted, such as the input.
    """
    saved: list[tuple[Tensor, str, int]] = []
    with Places.of(model) as places:

        def pack(t: Tensor) -> Tensor:
            # Autograd has just numbered the node that keeps t. The list keeps t too, so that no address comes twice.
            saved.append((t, places.here(), torch.autograd._get_sequence_nr() - 1))
            return t

        with saved_tensors_hooks(pack, lambda t: t):
            result = call()
    owned = chain(model.parameters(), model.buffers()) if model is not None else ()
    known = {_memory(t) for t in chain(owned, given)}
    names = {node._sequence_nr(): node.name() for node in _graph(result)}
    names = {age + 1: name for age, name in names.items()} | names  # what an operator changes in place is cloned first
    first: dict[int, tuple[Tensor, str]] = {}
    by: dict[int, list[str]] = {}
    for t, module, age in saved:
        if (memory := _memory(t)) not in known:
            first.setdefault(memory, (t, module))
            by.setdefault(memory, []).extend([names[age]] if age in names else [])
    held = [
        Held(tuple(t.shape), t.dtype, t.untyped_storage().nbytes(), module, tuple(dict.fromkeys(by[memory])))
        for memory, (t, module) in first.items()
    ]
    return Kept(tuple(sorted(held, key=lambda one: -one.bytes)))


def _memory(t: Tensor) -> int:
    return t.untyped_storage()._cdata


def _graph(result: object) -> Iterator[Any]:
    """The nodes that backward would go through."""
    todo: list[Any] = [leaf.grad_fn for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
    seen: set[Any] = {None}
    while todo:
        if (node := todo.pop()) not in seen:
            seen.add(node)
            yield node
            todo += [parent for parent, _ in node.next_functions]
