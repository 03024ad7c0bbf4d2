"""Compares a module with its rewritten forwards by numbers, not trust: at several sizes, batches and magnitudes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from senet.surgery.graph.install import give_back, put_in
from senet.surgery.graph.ops import casts, tensors_in
from senet.surgery.graph.run import Wide, copied, random_like
from senet.surgery.graph.sizes import elsewhere, smaller
from senet.surgery.graph.walk import Reading
from senet.surgery.graph.written import Variant

__all__ = ["FORWARD_TOLERANCE", "TOLERANCE", "disagreement", "relative_difference"]

TOLERANCE = 1e-9
FORWARD_TOLERANCE = 1e-10  # of outputs alone
# Clamps, and other functions that show at large or small values alone.
_MAGNITUDES = (1e6, 1e-6)


def disagreement(
    readings: Sequence[Reading], variants: Sequence[Variant], *, gradients: bool = True, tolerance: float = TOLERANCE
) -> str | None:
    """Returns what differs between a module and its rewritten forwards, or None; or that one of the two does not run.

    Compared are outputs and, if asked for, gradients of inputs and parameters, and buffers and inputs afterwards, in
    all modes of the readings, in float64 with random norms; each relative to its largest value, or to a thousandth of
    the largest of its kind, since a bias before a norm has a gradient of nothing but rounding. Sizes that the module
    itself does not take are passed over. Last, if either decides a dtype, those of outputs are compared in half
    precision, on no device.

    Args:
        readings: of one module.
        variants: its rewritten forwards; of each reading one or more.
        gradients: whether it is to be trained.
        tolerance: of a relative difference.
    """
    casting = any(casts(node) is not None for variant in variants for node in variant.graph.nodes)
    comparison = _Comparison(readings[0].twin, variants, gradients=gradients, tolerance=tolerance)
    for reading in readings:
        for training in reading.modes:
            mode = "training" if training else "evaluation"
            for inputs, where, trained in _inputs(reading, training):
                try:
                    found = comparison.run(reading, inputs, training, gradients=trained)
                except _NotTakenError:
                    if not trained:  # another size than the example's, which the module need not take
                        continue
                    found = comparison.of_example(reading, training)
                if found is not None:
                    return f"{found} in {mode}{where}"
        if (reading.casts or casting) and (found := comparison.of_dtypes(reading)):
            return found
    return None


class _NotTakenError(Exception):
    """Inputs that a module itself does not take."""


def _inputs(reading: Reading, training: bool) -> Iterator[tuple[list[Tensor], str, bool]]:
    """Inputs to compare with, where they differ from the example in words, and whether gradients are looked at.

    Maps are small if the module takes that, which it shows by the first; all is the same formula at every size.
    """
    little = smaller(reading, square=reading.square)
    first = reading.inputs if little is None else little
    yield first, "" if little is None else f", for inputs of {_sizes(first)}", True
    if training:  # where a norm takes any magnitude away
        return
    if little is None:
        for inputs in elsewhere(reading, larger=False, square=reading.square):
            yield inputs, f", for inputs of {_sizes(inputs)}", False
    for size in _MAGNITUDES:
        yield [t * size if t.is_floating_point() else t for t in first], f", for values of {size:g}", False


def _sizes(inputs: Sequence[Tensor]) -> str:
    return ", ".join(" x ".join(map(str, t.shape)) for t in inputs)


class _Comparison:
    """A module's twin with its own forward and with rewritten ones, which are written once."""

    def __init__(self, twin: nn.Module, variants: Sequence[Variant], *, gradients: bool, tolerance: float) -> None:
        self.twin, self.tolerance = twin, tolerance
        self.looked_at = _changed_parameters(twin, variants) if gradients else None
        self.own = type(twin)
        put_in(twin, variants)
        self.rewritten = type(twin)
        give_back(twin)

    def run(self, reading: Reading, inputs: Sequence[Tensor], training: bool, *, gradients: bool = True) -> str | None:
        """Returns what differs for some inputs, or None.

        Raises:
            _NotTakenError: the module itself does not take them.
        """
        looked_at = self.looked_at if gradients else None
        with _mode(self.twin, training):
            try:
                wanted = _run(self.twin, reading, inputs, looked_at)
            except Exception as failure:  # whatever forward does with an input of ours
                raise _NotTakenError(_said(failure)) from failure
            self.twin.__class__ = self.rewritten
            try:
                got = _run(self.twin, reading, inputs, looked_at)
            except Exception as failure:
                return f"rewritten it does not run ({_said(failure)})"
            finally:
                self.twin.__class__ = self.own
        for kind, tensors in wanted.items():
            if found := _first_difference(kind, tensors, got[kind], self.tolerance):
                return found
        return None

    def of_example(self, reading: Reading, training: bool) -> str | None:
        """Returns what differs for the example's own sizes, or that the module does not take those either."""
        try:
            return self.run(reading, reading.inputs, training)
        except _NotTakenError as refused:  # it is reported, not lost
            return f"it does not run ({refused})"

    def of_dtypes(self, reading: Reading) -> str | None:
        """Returns which dtype of an output differs in half precision, or None; nothing is computed."""
        # A forward that names dtypes may treat the two kinds of half precision differently.
        for dtype in (torch.bfloat16, torch.float16):
            inputs = [t.to(dtype) if t.is_floating_point() else t for t in reading.shapes]
            args, kwargs = reading.call.rebuild(inputs)
            try:
                ghost = copied(self.twin, partial(_ghost, dtype=dtype))
                with torch.no_grad():
                    wanted = [t.dtype for t in tensors_in(ghost(*args, **kwargs))]
            except Exception:  # noqa: S112 - it knows no such dtype or device, and there is nothing to compare
                continue
            ghost.__class__ = self.rewritten
            with torch.no_grad():
                got = [t.dtype for t in tensors_in(ghost(*args, **kwargs))]
            if got != wanted:
                return f"in {dtype} its output would be of {got}, not {wanted}"
        return None


def _first_difference(
    kind: str, wanted: dict[str, Tensor | None], got: dict[str, Tensor | None], tolerance: float
) -> str | None:
    floor = max((_largest(t) for t in wanted.values()), default=0.0) / 1000
    for name, tensor in wanted.items():
        other = got.get(name)
        if (tensor is None) != (other is None):
            return f"{kind} {name} {'is missing' if other is None else 'should be missing'}"
        if tensor is None or other is None:
            continue
        if tensor.shape != other.shape or tensor.dtype != other.dtype:
            return f"{kind} {name} is {other.dtype} {tuple(other.shape)}, not {tensor.dtype} {tuple(tensor.shape)}"
        if not tensor.isfinite().all():  # beyond what numbers can tell
            continue
        error = _largest(tensor.double() - other.double()) / max(_largest(tensor), floor, 1e-30)
        if not error <= tolerance:
            return f"{kind} {name} differs by {error:.1e}"
    return None


def _said(failure: Exception) -> str:
    return f"{type(failure).__name__}: {(str(failure).splitlines() or [''])[0]}"


@contextmanager
def _mode(twin: nn.Module, training: bool) -> Iterator[None]:
    """One mode of all parts for a while; modes and buffers are as they were afterwards."""
    modes = {m: m.training for m in twin.modules()}
    twin.train(training)
    try:
        yield
    finally:
        twin.train(modes[twin])
        for m, mode in modes.items():
            m.training = mode


def _changed_parameters(twin: nn.Module, variants: Sequence[Variant]) -> dict[str, nn.Parameter]:
    """Parameters whose gradients are computed in another way, and small ones.

    The weight of a layer that is called as before gets a wrong gradient only if what the layer gives does, and then so
    do its bias, its norm and what it is called with; to compute it takes most of the time.
    """
    called = [{str(n.target) for n in v.graph.nodes if n.op == "call_module"} for v in variants]
    same = set.intersection(*called) if called else set()
    return {
        name: p
        for name, p in twin.named_parameters()
        if p.requires_grad and (p.numel() <= 4096 or name.rpartition(".")[0] not in same)
    }


def _run(
    twin: nn.Module, reading: Reading, inputs: Sequence[Tensor], looked_at: dict[str, nn.Parameter] | None
) -> dict[str, dict[str, Tensor | None]]:
    gradients = looked_at is not None
    kept = [(b, b.clone()) for b in twin.buffers()]
    leaves = [a.clone().requires_grad_(gradients and a.is_floating_point()) for a in inputs]
    # Multiplied, so that a module which works in place does not write into a leaf.
    given = [a * 1 if a.is_floating_point() else a for a in leaves]
    args, kwargs = reading.call.rebuild(given)
    torch.default_generator.manual_seed(
        0
    )  # torch.manual_seed would queue the seed for each kind of GPU, time and again
    try:
        with Wide(), torch.set_grad_enabled(gradients):
            outputs = list(tensors_in(twin(*args, **kwargs)))
        seen: dict[str, dict[str, Tensor | None]] = {"output": {str(i): t.detach() for i, t in enumerate(outputs)}}
        seen["buffer"] = {name: b.to(torch.float64, copy=True) for name, b in twin.named_buffers()}
        # A forward that works in place on what it is given is seen by whoever gave it.
        seen["input"] = {f"{i} afterwards": a.detach() for i, a in enumerate(given)}
        if looked_at is not None:
            seen["gradient"] = _gradients(looked_at, leaves, outputs)
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
    return seen


def _gradients(
    looked_at: dict[str, nn.Parameter], leaves: Sequence[Tensor], outputs: Sequence[Tensor]
) -> dict[str, Tensor | None]:
    loss = torch.zeros((), dtype=torch.float64, device="cpu", requires_grad=True)
    for seed, t in enumerate(outputs):
        if t.requires_grad:
            loss = loss + (t * random_like(t, 7 + seed)).sum()
    wanted = {f"of input {i}": a for i, a in enumerate(leaves) if a.requires_grad}
    wanted |= {f"of {name}": p for name, p in looked_at.items()}
    if not wanted:
        return {}
    return dict(zip(wanted, torch.autograd.grad(loss, list(wanted.values()), allow_unused=True), strict=True))


def _ghost(t: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor without numbers, of a dtype if it has real ones."""
    return torch.empty_like(t, device="meta", dtype=dtype if t.is_floating_point() else t.dtype)


def _largest(x: Tensor | None) -> float:
    return float(torch.stack(x.double().aminmax()).abs().max()) if x is not None and x.numel() else 0.0


def relative_difference(got: Tensor, wanted: Tensor) -> float:
    """The largest difference of two tensors, relative to the largest value."""
    return float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30)) if wanted.numel() else 0.0
