"""Runs a model once and notes how its modules are called, and which of them multiply a map by a gate of its own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from senet.errors import InputError
from senet.surgery.graph.calls import Call, NotPlainError
from senet.surgery.graph.modules import evaluating
from senet.surgery.graph.ops import is_map, is_per_channel
from senet.surgery.graph.run import Wide, example_inputs, in_float64

__all__ = ["Observed", "observe"]

_SMALL = 2**16  # of elements: values that may be averages of a map or gates are kept, all others are not
_RTOL = 1e-9


@dataclass
class Observed:
    """What was seen of a model in one run, in evaluation.

    Attributes:
        calls: how each module was called: each way once, with its tensors on the meta device.
        counts: how often each module was called.
        opaque: modules that were called with something that no graph can stand for, and what.
        gated: of each module, how many products of a map and a gate computed from that map's own average it made in
            one call, outside of its parts.
        example: what the model was called with, in float64.
    """

    calls: dict[nn.Module, list[tuple[Call, list[Tensor]]]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[nn.Module] = field(default_factory=Counter)
    opaque: dict[nn.Module, str] = field(default_factory=dict)
    gated: dict[nn.Module, int] = field(default_factory=dict)
    example: tuple[Any, ...] = ()


def observe(twin: nn.Module, example: Sequence[Any] | None) -> Observed:
    """Runs a float64 twin without gradients.

    Args:
        twin: from :func:`~senet.surgery.graph.run.float64_twin`.
        example: what its forward takes: tensors, and lists, tuples and dictionaries of them; None: the first of
            :func:`~senet.surgery.graph.run.example_inputs` that it takes.

    Raises:
        InputError: the model does not take the example.
    """
    if example is not None and not isinstance(example, list | tuple):
        raise InputError(
            f"example is a {type(example).__name__}; accepted: a tuple of what forward takes, such as (images,)"
        )
    examples = example_inputs(twin) if example is None else iter([tuple(example)])
    error: tuple[Any, Exception] | None = None
    for given in examples:
        given = torch.utils._pytree.tree_map(in_float64, given)
        try:
            return _Observer(twin).run(given)
        except Exception as failure:  # whatever a model says to an image of the wrong size
            error = error or (given, failure)
    assert error is not None
    shapes = ", ".join(str(tuple(a.shape)) for a in tree_leaves(error[0]) if isinstance(a, Tensor))
    first = (str(error[1]).splitlines() or [""])[0]
    refused = f"{type(twin).__name__} does not take an example of shape {shapes} ({first})"
    raise InputError(f"{refused}; give one that it takes: example=(tensor,)") from error[1]


class _Observer:
    def __init__(self, twin: nn.Module) -> None:
        self.twin = twin
        self.seen = Observed()
        self.stack: list[nn.Module] = []
        self.made: list[int] = []  # products of gates, of each call on the stack

    def run(self, example: tuple[Any, ...]) -> Observed:
        hooks = []
        for module in self.twin.modules():
            if isinstance(module, torch.jit.ScriptModule):  # which takes no hooks; it is called whole
                continue
            hooks.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
            hooks.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            with evaluating(self.twin), torch.no_grad(), Wide(), _Products(self._product):
                self.twin(*example)
        finally:
            for hook in hooks:
                hook.remove()
        self.seen.example = example
        return self.seen

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.stack.append(module)
        self.made.append(0)
        self.seen.counts[module] += 1
        try:
            call, tensors = Call.of(args, kwargs)
        except NotPlainError as kind:
            self.seen.opaque[module] = f"it is called with a {kind}"
            return
        known = self.seen.calls[module]
        if all(call != other for other, _ in known):
            known.append((call, [torch.empty_like(t, device="meta") for t in tensors]))

    def _leave(self, module: nn.Module, *_: Any) -> None:
        made = self.made.pop()
        self.stack.pop()
        if made:
            self.seen.gated[module] = max(made, self.seen.gated.get(module, 0))

    def _product(self) -> None:
        if self.made:
            self.made[-1] += 1


@dataclass(eq=False)
class _Value:
    """A tensor of a run: what it was computed from, its numbers if they are few, and whether it is a mean or a sum."""

    parents: tuple[_Value, ...]
    numbers: Tensor | None
    reduced: bool


class _Products(TorchDispatchMode):
    """Calls back at each product of a map and a gate that is computed from the map's own average.

    The gate has one number for each channel of each image, and some value that it was computed from equals the average.
    """

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.found = found
        self.known = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [a for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)]
        pairs: list[tuple[Tensor, Tensor]] = []
        if func.overloadpacket in _MULTIPLY and len(given) >= 2:
            pairs = [(given[-2], given[-1]), (given[-1], given[-2])]
        gated = any(self._is_gated(u, s) for u, s in pairs)  # before an operator in place writes over them
        output = func(*args, **(kwargs or {}))
        parents = tuple(self.known[t] for t in given if t in self.known)
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                few = tensor.numel() <= _SMALL and tensor.is_floating_point() and tensor.device.type != "meta"
                self.known[tensor] = _Value(
                    parents, tensor.detach().clone() if few else None, func.overloadpacket in _REDUCE
                )
        if gated:
            self.found()
        return output

    def _is_gated(self, u: Tensor, s: Tensor) -> bool:
        if not is_map(u) or not is_per_channel(s, u):
            return False
        mean = u.mean(tuple(range(2, u.ndim))).flatten()
        start = self.known.get(s, None)
        # Of one pixel anything is the average, so an average must have been taken.
        return start is not None and _comes_from(start, mean, reduced=u.shape[2:].numel() == 1)


_MULTIPLY = {torch.ops.aten.mul, torch.ops.aten.mul_, torch.ops.aten.addcmul, torch.ops.aten.addcmul_}


_REDUCE = {
    *(torch.ops.aten.mean, torch.ops.aten.sum, torch.ops.aten.avg_pool2d, torch.ops.aten.avg_pool3d),
    *(torch.ops.aten._adaptive_avg_pool2d, torch.ops.aten._adaptive_avg_pool3d),
}


def _comes_from(start: _Value, mean: Tensor, *, reduced: bool) -> bool:
    """Whether a value is computed from one that equals an average, by way of small values or its expansions."""
    seen, todo = {start}, [(start, 3)]
    while todo:
        value, wide_steps = todo.pop()
        if value.numbers is not None and value.numbers.numel() == mean.numel():
            same = torch.allclose(value.numbers.flatten(), mean, rtol=_RTOL, atol=1e-12)
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
