"""Small networks that tests of surgery share, and the one comparison of a network before surgery and after it.

A network is a unit between a convolution and nothing: ``network(function)`` has a unit whose forward is the function,
which gets the unit (layers ``conv``, ``bn``, ``gate`` ...) and its input. What a test varies stands in the function.
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
from senet.surgery.report import Report

__all__ = ["SIZES", "Case", "Gate", "Unit", "gated", "images", "network", "randomised", "same", "wide"]

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}

# Batch and sides: the example's, one image that is not square, more images of odd sides, and many small ones.
SIZES = ((2, 12, 12), (1, 9, 14), (5, 7, 5), (35, 4, 6))


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
        self.conv = CONVOLUTIONS[axes](channels, channels, 3, padding=1, bias=False)
        self.bn = (norm or NORMS[axes])(channels)
        self.gate = Gate(channels)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        assert self.function is not None
        return self.function(self, x)


def wide(s: Tensor) -> Tensor:
    """A gate (N, C) as what a map of images is multiplied by."""
    return s[:, :, None, None]


def gated(m: Any, u: Tensor) -> Tensor:
    """A map times its gate, in the plainest spelling."""
    return u * wide(m.gate(u.mean((2, 3))))


def network(function: Callable[..., Any] | None = None, *, unit: Any = Unit, axes: int = 2, **options: Any) -> nn.Module:
    """A convolution from three channels to eight, and a unit."""
    made = unit(**options) if function is None else unit(function, **({"axes": axes} if axes != 2 else {}), **options)
    return nn.Sequential(CONVOLUTIONS[axes](3, 8, 1), made)


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with norms and biases that hide nothing, in float64."""
    generator = torch.Generator().manual_seed(seed)
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


def inputs(sizes: Iterable[Sequence[int]] = SIZES) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    """Images of several sizes, and large and small ones, each named."""
    for shape in sizes:
        yield f"of {shape}", (images(shape),)
    first = next(iter(sizes))
    for scale in (1e3, 1e-3):
        yield f"of {first} times {scale:g}", (images(first, scale=scale),)


def outcome(model: nn.Module, given: tuple[Any, ...], *, gradients: bool) -> dict[str, Any]:
    """What a model gives, gradients and buffers included; or the class of what it raises."""
    model.zero_grad(set_to_none=True)
    copied = tree_map(lambda a: a.clone() if isinstance(a, Tensor) else a, given)
    torch.manual_seed(3)
    try:
        with torch.set_grad_enabled(gradients):
            out = model(*copied)
            tensors = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
            if gradients:
                loss = sum((t.double() * torch.linspace(-1, 1, t.numel()).view(t.shape)).sum() for t in tensors)
                loss.backward()
    except InputError:
        raise
    except Exception as error:
        return {"raises": type(error)}
    seen = {f"output {i}": t.detach() for i, t in enumerate(tensors)}
    seen |= {f"buffer {name}": b.clone() for name, b in model.named_buffers()}
    if gradients:
        seen |= {f"gradient of {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    return seen


def same(got: dict[str, Any], wanted: dict[str, Any], told: str, tolerance: float = 1e-9) -> None:
    """Asserts that two outcomes are the same, each tensor to a part of the largest of its kind."""
    assert got.keys() == wanted.keys(), f"{told}: {got.keys() ^ wanted.keys()} {got.get('raises')}"
    for name, tensor in wanted.items():
        if not isinstance(tensor, Tensor):
            assert got[name] == tensor, told
            continue
        other = got[name]
        assert (other.dtype, other.shape) == (tensor.dtype, tensor.shape), f"{told}: {name} is {other.dtype}"
        kind = name.partition(" ")[0]
        alike = [t.double() for n, t in wanted.items() if n.startswith(kind) and isinstance(t, Tensor) and t.numel()]
        floor = max((float(t[t.isfinite()].abs().max()) if t.isfinite().any() else 0 for t in alike), default=0) / 100
        scale = max(float(tensor.double().nan_to_num().abs().max()) if tensor.numel() else 0, floor, 1e-12)
        error = float((other.double() - tensor.double()).nan_to_num().abs().max()) / scale if tensor.numel() else 0.0
        assert torch.equal(other.isnan(), tensor.isnan()), f"{told}: {name} is not a number elsewhere"
        assert error <= tolerance, f"{told}: {name} differs by {error:.1e}"


@contextmanager
def _modes(models: Iterable[nn.Module], training: bool) -> Iterator[None]:
    kept = {m: m.training for model in models for m in model.modules()}
    for model in models:
        model.train(training)
    yield
    for m, mode in kept.items():
        m.training = mode


class Case:
    """A network, and what every verb makes of it, compared with it.

    Args:
        make: gives the network, the same one each time.
        products: how many gated maps it has.
        example: what it is called with where surgery looks at it.
        others: what it is called with afterwards, by a name each; None: images of many sizes.
        modes: whether its mode is set for the comparison; else it stays as made, whichever parts train.
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
        self.others = dict(inputs()) if others is None else others

    def plain(self) -> nn.Module:
        """The network as it is."""
        torch.manual_seed(0)
        return randomised(self.make())

    def account(self, done: Report, model: nn.Module) -> None:
        """Asserts that a report has each gated map once, norms that were folded aside."""
        norms = {p for p, m in model.named_modules() if "norm" in type(m).__name__.lower() or "BN" in type(m).__name__}
        rows = [row for row in (*done.taken, *done.left) if row[0] not in norms and not row[1].startswith("norm folded")]
        if self.products is not None:
            assert len(rows) == self.products, f"{done.verb}: {self.products} gated maps, reported are {rows}"
        assert all(reason.strip() for _, reason in rows)

    def compare(self, got: nn.Module, wanted: nn.Module, told: str, *, gradients: bool = True) -> None:
        """Asserts that two networks are the same in all modes and for all inputs."""
        for training in self.modes:
            if training and not gradients:
                continue
            for name, given in self.others.items():
                pair = [copy.deepcopy(m) for m in (got, wanted)]
                if training is not None:
                    for m in pair:
                        m.train(training)
                a, b = (outcome(m, given, gradients=gradients) for m in pair)
                if not gradients:  # folded norms are gone, and their buffers
                    a, b = ({k: v for k, v in o.items() if not k.startswith("buffer")} for o in (a, b))
                same(a, b, f"{told}, {'training' if training else 'evaluation'}, inputs {name}")

    def fuse(self, change: Callable[[nn.Module], Any] = lambda _: None) -> Report:
        """Fuses a copy and compares it; a change is made to both after that."""
        plain, model = self.plain(), self.plain()
        keys = list(plain.state_dict())
        senet.fuse(model, example=self.example)
        done = senet.report(model)
        self.account(done, plain)
        assert list(model.state_dict()) == keys
        self.compare(model, plain, "fused")
        for each in (plain, model):
            change(each)
        self.compare(model, plain, "fused and changed")
        senet.unfuse(model)
        assert [type(m) for m in model.modules()] == [type(m) for m in plain.modules()]
        return done

    def fold(self, change: Callable[[nn.Module], Any] = lambda _: None) -> Report:
        """Folds it and compares the copy; a change is made to both after that."""
        plain = self.plain().eval()
        before = copy.deepcopy(plain.state_dict())
        folded = senet.fold(plain, example=self.example)
        done = senet.report(folded)
        self.account(done, plain)
        for name, t in plain.state_dict().items():
            assert torch.equal(t, before[name]), name
        self.compare(folded, plain, "folded", gradients=False)
        for each in (plain, folded):
            change(each)
        self.compare(folded, plain, "folded and changed", gradients=False)
        return done

    def record(self, change: Callable[[nn.Module], Any] = lambda _: None) -> list[str]:
        """Records it while it runs, without an edit and with one that changes nothing; returns the sites."""
        plain, model = self.plain(), self.plain()
        try:
            with senet.record(model, edit={"*": lambda gate: gate}, example=self.example) as recording:
                sites, left = list(recording.sites), recording.left
                if self.products is not None:
                    assert len(sites) + len(left) == self.products, (sites, left)
                for training in self.modes:
                    for given in self.others.values():
                        pair = [copy.deepcopy(plain), model]
                        state = copy.deepcopy(model.state_dict())
                        for m in pair:
                            if training is not None:
                                m.train(training)
                        wanted = outcome(pair[0], given, gradients=False)
                        recording.take()
                        got = outcome(model, given, gradients=False)
                        same(got, wanted, "recorded")
                        if "raises" not in wanted:
                            assert recording.take().keys() >= set(sites), "a gate was missed"
                        with torch.no_grad():
                            model.load_state_dict(state)
        except InputError as told:
            assert "has no map that is gated" in str(told), told  # noqa: PT017
            return []
        same(outcome(model.eval(), self.example, gradients=True), outcome(plain.eval(), self.example, gradients=True), "after")
        return sites

    def freeze(self) -> int:
        """Freezes each gate at numbers and compares with a recording that sets them; returns how many could be."""
        plain = self.plain()
        try:
            with senet.record(plain.eval(), example=self.example) as recording, torch.no_grad():
                plain(*tree_map(lambda a: a.clone() if isinstance(a, Tensor) else a, self.example))
        except InputError:
            return 0
        count = 0
        for site, seen in recording.gates.items():
            if "#" in site:
                continue
            values = seen.double().mean(0) + 0.125
            plain = self.plain()
            try:
                frozen = freeze_gates(plain, {site: values}, example=self.example)
            except InputError:
                continue
            count += 1
            with senet.record(plain, edit={site: values}, example=self.example):
                for training in self.modes:
                    for name, given in self.others.items():
                        pair = (frozen, plain)
                        states = [copy.deepcopy(m.state_dict()) for m in pair]
                        for m in pair:
                            if training is not None:
                                m.train(training)
                        got, wanted = (outcome(m, given, gradients=False) for m in pair)
                        mine, theirs = ({k: v for k, v in o.items() if not k.startswith("buffer")} for o in (got, wanted))
                        same(mine, theirs, f"{site} frozen, inputs {name}, training {training}")
                        for m, state in zip(pair, states, strict=True):
                            m.load_state_dict(state)
        return count

    def attach(self, where: Any = "conv") -> None:
        """Attaches blocks that start as the identity and compares; then takes them out again."""
        plain, model = self.plain(), self.plain()
        try:
            senet.attach(model, "se", where=where, example=self.example, options={"hidden_channels": 2})
        except InputError:
            self.compare(model, plain, "refused by attach")
            return
        for training in self.modes:
            for name, given in self.others.items():
                pair = [copy.deepcopy(m) for m in (model, plain)]
                if training is not None:
                    for m in pair:
                        m.train(training)
                got, wanted = (outcome(m, given, gradients=False) for m in pair)
                got = {k: v for k, v in got.items() if not k.startswith("buffer")}
                wanted = {k: v for k, v in wanted.items() if not k.startswith("buffer")}
                same(got, wanted, f"attached, inputs {name}", tolerance=0.0)
        senet.detach(model)
        self.compare(model, plain, "detached")

    def all(self, change: Callable[[nn.Module], Any] = lambda _: None) -> Report:
        """Every verb; returns fuse's report."""
        done = self.fuse(change)
        self.fold(change)
        self.record()
        self.freeze()
        self.attach()
        return done
