"""Whether a rewritten module still computes what it did: numbers in float64, not trust."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from senet.surgery.swap import put_in
from senet.surgery.trace import Traced

__all__ = ["TOLERANCE", "disagreement"]

TOLERANCE = 1e-9


def disagreement(traced: Traced, graph: torch.fx.Graph) -> str | None:
    """What differs between a module and its rewritten graph, or None.

    Compared are outputs, gradients of inputs and parameters, and buffers afterwards, in training and in evaluation,
    in float64 with random norms, relative to the largest value of each.
    """
    for training in (True, False):
        ours, theirs = copy.deepcopy(traced.double), traced_copy(traced)
        put_in(ours, graph, ())
        results = [dict(_run(m.train(training), traced.inputs)) for m in (theirs, ours)]
        for name, wanted in results[0].items():
            got = results[1].get(name)
            if (wanted is None) != (got is None):
                return f"{name} {'is missing' if got is None else 'should be missing'} in {_mode(training)}"
            if wanted is None or got is None:
                continue
            error = float((wanted - got).abs().max() / wanted.abs().max().clamp(min=1e-12)) if wanted.numel() else 0.0
            if not error <= TOLERANCE:
                return f"{name} differs by {error:.1e} in {_mode(training)}"
    return None


def traced_copy(traced: Traced) -> nn.Module:
    return copy.deepcopy(traced.double)


def _mode(training: bool) -> str:
    return "training" if training else "evaluation"


def _run(module: nn.Module, inputs: Sequence[Any]) -> Iterator[tuple[str, Tensor | None]]:
    leaves = [a.clone().requires_grad_() if isinstance(a, Tensor) else a for a in inputs]
    # A copy, so that a module which works in place does not write into a leaf.
    args = [a * 1 if isinstance(a, Tensor) else a for a in leaves]
    torch.manual_seed(0)
    outputs = [t for t in _flat(module(*args)) if t.requires_grad]
    generator = torch.Generator().manual_seed(1)
    loss = sum((t * torch.randn(t.shape, generator=generator, dtype=t.dtype)).sum() for t in outputs)
    wanted = {f"gradient of input {i}": a for i, a in enumerate(leaves) if isinstance(a, Tensor)}
    wanted |= {f"gradient of {n}": p for n, p in module.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)  # type: ignore[arg-type]
    yield from ((f"output {i}", t.detach()) for i, t in enumerate(outputs))
    yield from zip(wanted, grads, strict=True)
    yield from ((name, b.double()) for name, b in module.named_buffers())


def _flat(out: Any) -> Iterator[Tensor]:
    if isinstance(out, Tensor):
        yield out
    elif isinstance(out, list | tuple):
        for part in out:
            yield from _flat(part)
    elif isinstance(out, dict):
        yield from _flat(list(out.values()))
