"""Derivatives of derivatives of a free site: those of plain PyTorch, as gradient penalties need them."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from senet.blocks.free import close_gated, close_project, close_tail, open_site, pooled
from senet.kernels import plain_sweeps
from senet.kernels.dispatch import use

ACTS = {
    "none": lambda u: u,
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hard_swish": F.hardswish,
    "gelu": F.gelu,
}
OF_RANK = {
    3: (nn.BatchNorm1d, nn.Conv1d),
    4: (nn.BatchNorm2d, nn.Conv2d),
    5: (nn.BatchNorm3d, nn.Conv3d),
}
KINDS = [
    ("tail", "none"),
    ("alone", "none"),
    ("plain", "none"),
    *itertools.product(("gated", "project", "gate"), [act for act in ACTS if act != "none"]),
]
SHAPE = (3, 4, 3, 5)


class Site(nn.Module):
    """A site with its parts, and its two ways: as PyTorch computes it, and free."""

    def __init__(self, kind: str, act: str, rank: int = 4, *, training: bool = True) -> None:
        super().__init__()
        self.kind, self.act = kind, act
        batch_norm, conv = OF_RANK[rank]
        self.norm = batch_norm(4)
        self.fc = nn.Sequential(conv(4, 3, 1), nn.Tanh(), conv(3, 4, 1), nn.Sigmoid())
        self.conv = conv(4, 3, 3, padding=1, stride=2)
        self.double().train(training)
        with torch.no_grad():
            self.norm.weight.normal_().add_(0.5)
            self.norm.bias.normal_()
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 1.5)

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        return self.free(x, shortcut)

    def free(self, x: Tensor, shortcut: Tensor) -> Tensor:
        site = open_site(x, self.norm, self.act, pool=self.kind != "plain")
        if self.kind == "plain":
            return close_tail(site, None, shortcut, relu=True)
        s = self.fc(pooled(site, x.ndim))
        if self.kind in ("tail", "alone"):
            return close_tail(site, s, shortcut if self.kind == "tail" else None, relu=self.kind == "tail")
        if self.kind == "gate":
            return s
        return close_gated(site, s) if self.kind == "gated" else close_project(site, s, self.conv)

    def defined(self, x: Tensor, shortcut: Tensor) -> Tensor:
        h = ACTS[self.act](self.norm(x))
        if self.kind == "plain":
            return torch.relu(h + shortcut)
        s = self.fc(h.mean(tuple(range(2, x.ndim)), keepdim=True))
        if self.kind == "gate":
            return s
        if self.kind == "tail":
            return torch.relu(s * h + shortcut)
        return self.conv(s * h) if self.kind == "project" else s * h


def numbers(shape, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def derivatives(site: Site, way: str, x: Tensor, shortcut: Tensor, dtype=torch.float64) -> list[Tensor | None]:
    """Output, gradients of it, and the gradients of a penalty on those, by everything there is."""
    site = site.to(dtype)
    leaves = [x.to(dtype, copy=True).requires_grad_(), shortcut.to(dtype, copy=True).requires_grad_()]
    out = getattr(site, way)(*leaves)
    upstream = numbers(out.shape, 1).to(dtype).requires_grad_()
    leaves += site.parameters()
    first = torch.autograd.grad(out, leaves, upstream, create_graph=True, allow_unused=True)
    penalty = sum((g.square() + g * numbers(g.shape, 2).to(dtype)).sum() for g in first if g is not None)
    second = torch.autograd.grad(penalty, [*leaves, upstream], allow_unused=True)
    return [t if t is None else t.detach() for t in (out, *first, *second)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [SHAPE, (3, 4, 7), (2, 4, 3, 2, 5), (5, 4, 1, 1), (1, 4, 2, 3)], ids=str)
@pytest.mark.parametrize(("kind", "act"), KINDS)
def test_equal_those_of_plain_pytorch(kind, act, shape, training):
    site = Site(kind, act, len(shape), training=training)
    x, shortcut = numbers(shape, 3) * 2 + 0.5, numbers(shape, 4)
    wanted, found = (derivatives(site, way, x, shortcut) for way in ("defined", "free"))
    assert wanted[-1].abs().max() > 1e-3
    for a, b in zip(found, wanted, strict=True):
        if a is None or b is None:  # nothing there is as good as zeros
            assert all(t is None or not t.any() for t in (a, b))
        else:
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10 * max(1, b.abs().max().item()))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kind", "act"), KINDS)
def test_equal_differences_of_gradients(kind, act, training):
    site = Site(kind, act, training=training)
    names = [name for name, _ in site.named_parameters()]

    def function(x: Tensor, shortcut: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(site, dict(zip(names, parameters, strict=True)), (x, shortcut))

    x, shortcut = (numbers((2, 4, 2, 3), seed).requires_grad_() for seed in (3, 4))
    assert torch.autograd.gradgradcheck(function, (x, shortcut, *site.parameters()), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("kind", "act"), [("tail", "none"), ("project", "silu")])
def test_are_at_most_twice_as_wrong_as_pytorch(kind, act, dtype):
    """Over several draws: one draw says little."""
    ours, theirs = 0.0, 0.0
    for seed in range(6):
        torch.manual_seed(seed)
        site = Site(kind, act).to(dtype)
        x, shortcut = ((numbers((4, 4, 9, 7), 10 * seed + i) * 2 + 0.5).to(dtype).double() for i in range(2))
        exact = derivatives(site.double(), "defined", x, shortcut)
        for found, plain, wanted in zip(
            derivatives(site, "free", x, shortcut, dtype),
            derivatives(site, "defined", x, shortcut, dtype),
            exact,
            strict=True,
        ):
            if wanted is not None and wanted.any():
                size = wanted.norm().item()
                ours += ((found.double() - wanted).norm().item() / size) ** 2
                theirs += ((plain.double() - wanted).norm().item() / size) ** 2
    assert 0 < ours**0.5 <= 2 * theirs**0.5


def test_kept_fast_kernels_do_first_order_alone(monkeypatch):
    """With a graph of the gradient the plain sweeps work, and without one they do not."""
    site, (x, shortcut) = Site("tail", "none"), (numbers(SHAPE, seed).requires_grad_() for seed in (3, 4))
    asked: list[bool] = []
    behind = plain_sweeps.affine_backward

    def listening(*args):
        asked.append(torch.is_grad_enabled())
        return behind(*args)

    monkeypatch.setattr(plain_sweeps, "affine_backward", listening)
    with use("native"):
        first = torch.autograd.grad(site(x, shortcut).sum(), x)
        assert asked == []
        second = torch.autograd.grad(site(x, shortcut).sum(), x, create_graph=True)
        assert asked == [True]
    torch.testing.assert_close(first, second)


def test_with_statistics_of_two_processes(tmp_path):
    """The penalty is of the whole batch's gradient, of which each process has a part."""
    torch.multiprocessing.spawn(_half, args=(str(tmp_path / "store"), str(tmp_path)), nprocs=2)
    torch.manual_seed(0)
    site = Site("tail", "none")
    wanted = _penalised(site, "defined", slice(None))
    halves = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    torch.testing.assert_close(torch.cat([half[0] for half in halves]), wanted[0])
    for a, b, whole in zip(halves[0][1:], halves[1][1:], wanted[1:], strict=True):
        torch.testing.assert_close(a + b, whole)


def _penalised(site: Site, way: str, own: slice) -> list[Tensor]:
    x, shortcut = numbers((5, 4, 3, 5), 3)[own].requires_grad_(), numbers((5, 4, 3, 5), 4)[own]
    out = getattr(site, way)(x, shortcut)
    (g,) = torch.autograd.grad(out, x, numbers((5, 4, 3, 5), 5)[own], create_graph=True)
    parameters = [*site.norm.parameters(), *site.fc.parameters()]
    return [t.detach() for t in torch.autograd.grad(g.square().sum(), [x, *parameters])]


def _half(rank: int, store: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.manual_seed(0)
    site = Site("tail", "none")
    site.norm, norm = nn.SyncBatchNorm(4).double(), site.norm
    site.norm.load_state_dict(norm.state_dict())
    torch.save(_penalised(site, "free", slice(0, 3) if rank == 0 else slice(3, 5)), f"{folder}/{rank}.pt")
    dist.destroy_process_group()
