"""Whether a rewritten module still computes what it did: numbers in float64, not trust."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from senet.surgery.chains import tensors_in
from senet.surgery.swap import put_in
from senet.surgery.trace import Traced

__all__ = ["TOLERANCE", "disagreement"]

TOLERANCE = 1e-9


def disagreement(traced: Traced, graph: torch.fx.Graph) -> str | None:
    """What differs between a module and its rewritten graph, or None; or that one of the two does not run.

    Compared are outputs, gradients of inputs and parameters, and buffers afterwards, in training and in evaluation,
    in float64 with random norms; each relative to its largest value, or to a thousandth of the largest of its kind,
    since a bias before a norm has a gradient of nothing but rounding.
    """
    for training in (True, False):
        theirs, ours = copy.deepcopy(traced.double), copy.deepcopy(traced.double)
        put_in(ours, graph)
        mode = "training" if training else "evaluation"
        try:
            wanted, got = _run(theirs.train(training), traced.inputs), _run(ours.train(training), traced.inputs)
        except Exception as failure:  # whatever forward does with an input of ours; it is reported, not lost
            return f"it does not run in {mode} ({type(failure).__name__}: {(str(failure).splitlines() or [''])[0]})"
        for kind, tensors in wanted.items():
            floor = max((_largest(t) for t in tensors.values()), default=0.0) / 1000
            for name, tensor in tensors.items():
                other = got[kind].get(name)
                if (tensor is None) != (other is None):
                    return f"{kind} {name} {'is missing' if other is None else 'should be missing'} in {mode}"
                if tensor is not None and other is not None:
                    error = _largest(tensor - other) / max(_largest(tensor), floor, 1e-30)
                    if not error <= TOLERANCE:
                        return f"{kind} {name} differs by {error:.1e} in {mode}"
    return None


def _largest(x: Tensor | None) -> float:
    return float(x.abs().max()) if x is not None and x.numel() else 0.0


def _run(module: nn.Module, inputs: Sequence[Any]) -> dict[str, dict[str, Tensor | None]]:
    leaves = [a.clone().requires_grad_() if isinstance(a, Tensor) else a for a in inputs]
    # Multiplied, so that a module which works in place does not write into a leaf.
    args = [a * 1 if isinstance(a, Tensor) else a for a in leaves]
    torch.manual_seed(0)
    outputs = list(tensors_in(module(*args)))
    generator = torch.Generator().manual_seed(1)
    loss = torch.zeros((), dtype=torch.float64, device="cpu", requires_grad=True)
    for t in outputs:
        if t.requires_grad:
            loss = loss + (t * torch.randn(t.shape, generator=generator, dtype=t.dtype, device="cpu")).sum()
    wanted = {f"of input {i}": a for i, a in enumerate(leaves) if isinstance(a, Tensor)}
    wanted |= {f"of {name}": p for name, p in module.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    return {
        "output": {str(i): t.detach() for i, t in enumerate(outputs)},
        "gradient": dict(zip(wanted, grads, strict=True)),
        "buffer": {name: b.double() for name, b in module.named_buffers()},
    }
