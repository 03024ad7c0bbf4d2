"""Small networks that tests of surgery share, and the one comparison of a network before surgery and after it.

A network is a convolution and a unit, whose forward is a function of the unit (layers ``conv``, ``bn``, ``gate``) and
its input: what a test varies stands in that function, or in the norm that the unit is given.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

import senet
from senet.errors import InputError
from senet.surgery.gating.freeze import freeze_gates
from senet.surgery.graph.install import Rewritten
from senet.surgery.graph.modules import is_norm
from senet.surgery.report import Report

__all__ = [
    "SIZES",
    "Case",
    "Gate",
    "Unit",
    "gated",
    "images",
    "inputs",
    "network",
    "outcome",
    "randomised",
    "residual",
    "same",
    "wide",
]

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}

# Batch and sides: the example's, one image that is not square, and many of odd sides.
SIZES = ((2, 12, 12), (1, 9, 14), (35, 5, 7))


class Gate(nn.Module):
    """Numbers of channels (N, C) in (0, 1) from numbers of channels."""

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, 4), nn.Linear(4, channels)

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(z))))


class Unit(nn.Module):
    """Convolution, norm and a gate's layers; a subclass, or a function given to it, is the forward."""

    def __init__(
        self, function: Callable[..., Any] | None = None, norm: Any = None, axes: int = 2, channels: int = 8
    ) -> None:
        super().__init__()
        self.conv = _CONVOLUTIONS[axes](channels, channels, 3, padding=1, bias=False)
        self.bn = (norm or _NORMS[axes])(channels)
        self.gate = Gate(channels)
        self.function = function

    def normed(self, x: Tensor) -> Tensor:
        """The map that is gated in most units."""
        return self.bn(self.conv(x))

    def forward(self, x: Tensor) -> Any:
        assert self.function is not None
        return self.function(self, x)


def wide(s: Tensor) -> Tensor:
    """A gate (N, C) as what a map of images is multiplied by."""
    return s[:, :, None, None]


def gated(m: Any, u: Tensor) -> Tensor:
    """A map of images times its gate, in the plainest spelling."""
    return u * wide(m.gate(u.mean((2, 3))))


def residual(m: Any, x: Tensor) -> Tensor:
    """Norm, gate, shortcut, ReLU."""
    return torch.relu(gated(m, m.normed(x)) + x)


def network(function: Callable[..., Any] | None = residual, *, unit: Any = Unit, **options: Any) -> nn.Module:
    """A convolution from three channels to eight, and a unit."""
    return nn.Sequential(_CONVOLUTIONS[options.get("axes", 2)](3, 8, 1), unit(function, **options))


def randomised(model: nn.Module) -> nn.Module:
    """The model in float64, with norms and biases that hide nothing."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, t in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith(("running_var", "bn.weight")):
                t.copy_(torch.rand(t.shape, generator=generator) + 0.5)
            elif name.endswith(("running_mean", "bias")):
                t.copy_(torch.rand(t.shape, generator=generator) - 0.5)
    return model.double()


def images(shape: Sequence[int], seed: int = 1, scale: float = 1.0) -> Tensor:
    """Random images in float64: of batch and sides, three channels."""
    generator = torch.Generator().manual_seed(seed)
    batch, *sides = shape
    return torch.randn(batch, 3, *sides, generator=generator, dtype=torch.float64) * scale


def inputs(sizes: Iterable[Sequence[int]] = SIZES, scales: Iterable[float] = ()) -> dict[str, tuple[Tensor, ...]]:
    """Images of several sizes, and of several magnitudes, each by a name."""
    sizes = list(sizes)
    found = {f"of {shape}": (images(shape),) for shape in sizes}
    return found | {f"of {sizes[0]} times {by:g}": (images(sizes[0], scale=by),) for by in scales}


def outcome(model: nn.Module, given: tuple[Any, ...], *, gradients: bool) -> dict[str, Any]:
    """What a model gives, with gradients and buffers; or the class of what it raises, if that is not meant for users.

    Raises:
        InputError: the model said so.
    """
    model.zero_grad(set_to_none=True)
    torch.manual_seed(3)
    try:
        with torch.set_grad_enabled(gradients):
            out = model(*tree_map(lambda a: a.clone() if isinstance(a, Tensor) else a, given))
            leaves = tree_leaves(vars(out) if hasattr(out, "__dataclass_fields__") else out)
            tensors = [t for t in leaves if isinstance(t, Tensor)]
            if gradients:
                each = [(t.double() * torch.linspace(-1, 1, t.numel()).view(t.shape)).sum() for t in tensors]
                torch.stack(each).sum().backward()
    except InputError:
        raise
    except Exception as error:
        return {"raises": type(error)}
    seen = {f"output {i}": t.detach() for i, t in enumerate(tensors)}
    seen |= {f"buffer {name}": b.clone() for name, b in model.named_buffers()}
    if gradients:
        seen |= {f"gradient {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return seen


def same(got: dict[str, Any], wanted: dict[str, Any], told: str, tolerance: float = 1e-9) -> None:
    """Asserts that two outcomes are the same, each tensor to a part of its largest number, or of its kind's."""
    assert got.keys() == wanted.keys(), f"{told}: {sorted(got.keys() ^ wanted.keys())} {got.get('raises')}"
    largest = {name: float(t.double().nan_to_num().abs().max()) for name, t in wanted.items() if _has_numbers(t)}
    for name, tensor in wanted.items():
        other = got[name]
        if not isinstance(tensor, Tensor):
            assert other == tensor, told
            continue
        assert (other.dtype, other.shape) == (tensor.dtype, tensor.shape), f"{told}: {name} is {other.dtype}"
        if not tensor.numel():
            continue
        kind = name.partition(" ")[0]
        # A bias before a norm has a gradient of nothing but rounding.
        floor = max(size for each, size in largest.items() if each.startswith(kind)) / 100
        assert torch.equal(other.isnan(), tensor.isnan()), f"{told}: {name} is not a number elsewhere"
        error = float((other.double() - tensor.double()).nan_to_num().abs().max()) / max(largest[name], floor, 1e-12)
        assert error <= tolerance, f"{told}: {name} differs by {error:.1e}"


def _has_numbers(value: object) -> bool:
    return isinstance(value, Tensor) and value.numel() > 0


@contextmanager
def _as_it_was(model: nn.Module, training: bool | None) -> Iterator[None]:
    """A mode for a while, None for that of each part; buffers and modes are as they were afterwards."""
    modes = {m: m.training for m in model.modules()}
    kept = [(b, b.clone()) for b in model.buffers()]
    if training is not None:
        model.train(training)
    try:
        yield
    finally:
        for m, mode in modes.items():
            m.training = mode
        with torch.no_grad():
            for b, value in kept:
                b.copy_(value)


def _nothing(model: nn.Module) -> None:
    """Changes nothing."""


class Case:
    """A network, and what each verb makes of it, compared with it.

    Args:
        make: gives the network, the same one each time.
        products: how many gated maps a report has to have, each once; None: any number.
        example: what it is called with where surgery looks at it.
        others: what it is called with afterwards, by a name each; None: images of several sizes.
        modes: of training, in which it is compared; None is for that of each part as it was made.
    """

    def __init__(
        self,
        make: Callable[[], nn.Module],
        products: int | None = 1,
        *,
        example: tuple[Any, ...] | None = None,
        others: dict[str, tuple[Any, ...]] | None = None,
        modes: Sequence[bool | None] = (True, False),
    ) -> None:
        self.make, self.products, self.modes = make, products, modes
        self.example = (images(SIZES[0], seed=2),) if example is None else example
        self.others = inputs() if others is None else others

    def plain(self) -> nn.Module:
        """The network as it is."""
        torch.manual_seed(0)
        return randomised(self.make())

    def fuse(self, change: Callable[[nn.Module], object] = _nothing) -> Report:
        """Fuses it and compares; a change is made to both after that."""
        plain, model = self.plain(), self.plain()
        kinds, keys = [type(m) for m in model.modules()], list(model.state_dict())
        assert senet.fuse(model, example=self.example) is model
        done = senet.report(model)
        self._account(done, plain)
        assert list(model.state_dict()) == keys
        self._compare(model, plain, "fused")
        if change is not _nothing:
            self._changed(change, model, plain)
            self._compare(model, plain, "fused, then changed")
        senet.unfuse(model)
        assert not any(isinstance(m, Rewritten) for m in model.modules())
        assert change is not _nothing or [type(m) for m in model.modules()] == kinds
        return done

    def fold(self, change: Callable[[nn.Module], object] = _nothing) -> Report:
        """Folds it and compares the copy; a change is made to both after that."""
        plain = self.plain().eval()
        before = copy.deepcopy(plain.state_dict())
        folded = senet.fold(plain, example=self.example)
        done = senet.report(folded)
        self._account(done, plain)
        assert all(torch.equal(t, before[name]) for name, t in plain.state_dict().items())
        self._compare(folded, plain, "folded", copied=True)
        if change is not _nothing:
            self._changed(change, folded, plain)
            self._compare(folded, plain, "folded, then changed", copied=True)
        return done

    def record(self) -> list[str]:
        """Records it with an edit that changes nothing; each call is as without, or refused. Returns the sites."""
        plain, model = self.plain(), self.plain()
        try:
            with senet.record(model, edit={"*": lambda gate: gate}, example=self.example) as recording:
                sites = list(recording.sites)
                assert self.products in (None, len(sites) + len(recording.left)), (sites, recording.left)
                for training, given in ((mode, given) for mode in self.modes for given in self.others.values()):
                    self._heard(recording, model, plain, training, given)
        except InputError as told:
            assert "has no map that is gated" in str(told), told  # noqa: PT017
            return []
        pair = [outcome(each.eval(), self.example, gradients=True) for each in (model, plain)]
        same(*pair, "recorded, afterwards")
        return sites

    def freeze(self) -> int:
        """Freezes each gate and compares with a recording that sets it; returns how many could be."""
        plain, count = self.plain().eval(), 0
        try:
            with senet.record(plain, example=self.example) as recording:
                outcome(plain, self.example, gradients=False)
        except InputError:
            return 0
        for site, seen in recording.gates.items():
            values, plain = seen.double().mean(0) + 0.125, self.plain()
            try:
                frozen = freeze_gates(plain, {site: values}, example=self.example)
            except InputError:
                continue
            count += 1
            with senet.record(plain, edit={site: values}, example=self.example):
                self._compare(frozen, plain, f"{site} frozen", copied=True)
        return count

    def attach(self, where: Any = "conv") -> None:
        """Attaches blocks that start as the identity, which changes no bit, and takes them out again; or is refused."""
        plain, model = self.plain(), self.plain()
        try:
            senet.attach(model, where=where, example=self.example, options={"hidden_channels": 2})
        except InputError:
            self._compare(model, plain, "refused by attach")
            return
        self._compare(model, plain, "attached", copied=True, tolerance=0)
        senet.detach(model)
        self._compare(model, plain, "detached")

    def all(self) -> Report:
        """Every verb; returns what fuse reports."""
        done = self.fuse()
        self.fold()
        self.record()
        self.freeze()
        self.attach()
        return done

    def _account(self, done: Report, model: nn.Module) -> None:
        """Asserts that a report has each gated map once, and a reason for what it left; norms stand aside."""
        norms = {path for path, m in model.named_modules() if is_norm(m)}
        rows = [(path, what) for path, what in (*done.taken, *done.left) if path not in norms]
        assert self.products in (None, len(rows)), f"{done.verb}: {self.products} gated maps, reported are {rows}"
        assert all(what.strip() for _, what in rows)

    def _changed(self, change: Callable[[nn.Module], object], *models: nn.Module) -> None:
        for model in models:
            torch.manual_seed(5)
            change(model)
            model.double()

    def _compare(
        self, got: nn.Module, wanted: nn.Module, told: str, *, copied: bool = False, tolerance: float = 1e-9
    ) -> None:
        """Asserts that two networks are the same; of a copy that has other parts, in what it gives alone."""
        for training in self.modes:
            if training and told.startswith("folded"):
                continue
            for name, given in self.others.items():
                pair = []
                for model in (got, wanted):
                    with _as_it_was(model, training):
                        pair.append(outcome(model, given, gradients=not copied))
                if copied:
                    pair = [{n: v for n, v in each.items() if not n.startswith("buffer")} for each in pair]
                same(pair[0], pair[1], f"{told}, training {training}, inputs {name}", tolerance)

    def _heard(self, recording: Any, model: nn.Module, plain: nn.Module, training: bool | None, given: Any) -> None:
        """Compares one call while gates are recorded."""
        with _as_it_was(plain, training):
            wanted = outcome(plain, given, gradients=False)
        recording.take()
        with _as_it_was(model, training):
            try:
                got = outcome(model, given, gradients=False)
            except InputError as told:
                assert "would be missed" in str(told), told  # noqa: PT017
                return
        same(got, wanted, f"recorded, training {training}")
