"""Runs a model once and notes how its modules are called, and which of them multiply a map by a gate of its own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from senet.errors import InputError, with_article
from senet.surgery.graph.calls import Call, NotPlainError
from senet.surgery.graph.modules import evaluating
from senet.surgery.graph.products import Products
from senet.surgery.graph.run import Wide, example_inputs, in_float64

__all__ = ["Observed", "observe"]


@dataclass
class Observed:
    """Observations of a model in one run, in evaluation.

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
            f"example is {with_article(type(example).__name__)}; accepted: a tuple of what forward takes, such as "
            "(images,)"
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
            with evaluating(self.twin), torch.no_grad(), Wide(), Products(self._product):
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
            self.seen.opaque[module] = f"it is called with {with_article(str(kind))}"
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
