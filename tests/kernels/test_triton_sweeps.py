"""The sweeps against their formulas in float64, by Triton's interpreter here and on the GPU where there is one."""

from __future__ import annotations

import importlib
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

triton = pytest.importorskip("triton")
interpreter = importlib.import_module("triton.runtime.interpreter")

from senet.kernels.triton_plan import Plan, Tile  # noqa: E402

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
FORMATS = {"first": torch.contiguous_format, "last": torch.channels_last}
ACTS = {
    "none": lambda u: u,
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
    "hard_swish": F.hardswish,
    "gelu": F.gelu,
}
# odd, prime and 1; channels that fill no block; planes that share a run of elements, and that are split over programs
SHAPES = [(2, 24, 7, 7), (1, 3, 5, 11), (3, 70, 1, 1), (2, 1, 13, 17), (1, 4, 80, 80), (2, 5, 33, 33), (1, 1, 1, 2)]
EVERY_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
EVERY_DTYPE = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
EVERY_FORMAT = pytest.mark.parametrize("layout", FORMATS)


@pytest.fixture
def poison(monkeypatch):
    """New memory is NaN: what no kernel writes shows."""
    empty, empty_like = torch.empty, torch.empty_like
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).fill_(torch.nan))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: empty_like(*a, **k).fill_(torch.nan))


GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(params=["interpreted", pytest.param("compiled", marks=GPU)])
def sweeps(request, poison):
    """The module, and as ``sweeps.device`` where its maps have to be."""
    if request.param == "compiled":
        module, device = request.getfixturevalue("load_triton_sweeps")(False), "cuda"
    else:
        request.getfixturevalue("as_on_a_gpu")
        module, device = request.getfixturevalue("interpreted"), "cpu"
    module.device = device
    return module


def wide(*pixels: Tensor) -> tuple[Tensor, ...]:
    return tuple(None if v is None else v[:, :, None, None] for v in pixels)


def slope(u: Tensor, act: str) -> Tensor:
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        return torch.autograd.grad(ACTS[act](u).sum(), u)[0]


def centred(x: Tensor, center: Tensor | None) -> Tensor:
    return x if center is None else x - center


def inner(x, center, scale, shift):
    u = centred(x, center)
    u = u if scale is None else scale * u
    return u if shift is None else u + shift


class Sum(NamedTuple):
    """What is to be added up over the pixels, or averaged."""

    terms: Tensor
    mean: bool = False

    def value(self) -> Tensor:
        return self.terms.mean((2, 3)) if self.mean else self.terms.sum((2, 3))


def moments(x):
    return Sum(x, mean=True), Sum((x - x.mean((2, 3), keepdim=True)).square())


def affine(x, center, scale, shift, shortcut, relu):
    y = inner(x, *wide(center, scale, shift))
    y = y if shortcut is None else y + shortcut
    return y.relu() if relu else y


def affine_backward(g, out, x, center):
    g1 = g if out is None else torch.where(out <= 0, 0, g)
    return g1, Sum(g1), Sum(g1 * centred(x, *wide(center)))


def spread(g, x, center, p, q, r):
    center, p, q, r = wide(center, p, q, r)
    y = p * g if q is None else p * g + q * centred(x, center)
    return y if r is None else y + r


def squeeze_act(x, center, scale, shift, act):
    center, scale, shift = wide(center, scale, shift)
    u = inner(x, center, scale, shift)
    d = slope(u, act)
    return Sum(ACTS[act](u), mean=True), Sum(d, mean=True), Sum(d * centred(x, center), mean=True)


def gate_act(x, center, scale, shift, s, act):
    return wide(s)[0] * ACTS[act](inner(x, *wide(center, scale, shift)))


def gate_act_backward(g, x, center, scale, shift, act):
    center, scale, shift = wide(center, scale, shift)
    u = inner(x, center, scale, shift)
    d = g * slope(u, act)
    return Sum(g * ACTS[act](u)), Sum(d), Sum(d * centred(x, center))


def spread_act(g, x, center, scale, shift, p, e, q, r, act):
    center, scale, shift, p, e, q, r = wide(center, scale, shift, p, e, q, r)
    y = slope(inner(x, center, scale, shift), act) * (p * g + e)
    y = y if q is None else y + q * centred(x, center)
    return y if r is None else y + r


FORMULAS = {
    f.__name__: f
    for f in (moments, affine, affine_backward, spread, squeeze_act, gate_act, gate_act_backward, spread_act)
}


def tuple_of(result: Tensor | Sum | tuple[Tensor | Sum, ...]) -> tuple[Tensor | Sum, ...]:
    return (result,) if isinstance(result, (Tensor, Sum)) else result


def check(sweeps, name: str, *args, **options) -> tuple[Tensor, ...]:
    """A sweep may err twice what its formula errs in the accumulator dtype with one rounding.

    Plain PyTorch's error may happen to be tiny: a sum may err two ulps of the sum of its terms' absolute values, and
    a map that PyTorch has exactly, two of its own. In float64, where nothing here is more exact: 32 of either.
    """
    dtype = next(a.dtype for a in args if isinstance(a, Tensor) and a.dim() == 4)
    acc = torch.promote_types(dtype, torch.float32)

    def formula(to: torch.dtype) -> tuple[Tensor | Sum, ...]:
        return tuple_of(FORMULAS[name](*(a.to(to) if isinstance(a, Tensor) else a for a in args)))

    results = tuple_of(getattr(sweeps, name)(*args, **options))
    if name == "moments":
        mean, rest, m2 = results
        results = (mean, m2)
        if dtype == torch.float32:
            true = args[0].double().mean((2, 3))
            left = (mean.double() + rest.double() - true).abs().max()
            far = (args[0] - true[:, :, None, None]).abs().max()  # rounding is that of the deviations
            assert left <= 2e-7 * far, f"mean and rest err {left:.3g}"
    for result, plain, exact in zip(results, formula(acc), formula(torch.float64), strict=True):
        if is_sum := isinstance(exact, Sum):
            size = exact._replace(terms=exact.terms.abs()).value()
            plain, exact = plain.value(), exact.value()
        else:
            plain, size = plain.to(dtype), exact
        assert result.dtype == plain.dtype
        assert result.stride() == ((exact.shape[1], 1) if is_sum else args[0].stride())
        error, allowed = ((v.double() - exact).norm().item() for v in (result, plain))
        ulp = torch.finfo(result.dtype).eps * size.norm().item()
        if dtype == torch.float64:
            allowed = 16 * ulp
        elif is_sum or allowed < 0.01 * ulp:
            allowed += ulp
        assert error <= 2 * allowed, f"{name} errs {error:.3g}, plain PyTorch {allowed:.3g} of {exact.norm():.3g}"
    return results


def maps(count, shape, dtype, layout, device, mean=0.0) -> list[Tensor]:
    values = (torch.randn(shape) + mean for _ in range(count))
    return [v.to(device, dtype).contiguous(memory_format=FORMATS[layout]) for v in values]


def coefficients(count, shape, dtype, device) -> list[Tensor]:
    acc = torch.promote_types(dtype, torch.float32)
    return [torch.randn(shape[:2], dtype=acc).to(device) for _ in range(count)]


@EVERY_FORMAT
@EVERY_DTYPE
@EVERY_SHAPE
def test_every_sweep_is_its_formula(sweeps, shape, dtype, layout):
    x, g, shortcut = maps(3, shape, dtype, layout, sweeps.device)
    center, scale, shift, p, e, q, r = coefficients(7, shape, dtype, sweeps.device)
    check(sweeps, "moments", x)
    (out,) = check(sweeps, "affine", x, center, scale, shift, shortcut, True)
    check(sweeps, "affine_backward", g, out, x, center)
    check(sweeps, "spread", g, x, center, p, q, r)
    check(sweeps, "squeeze_act", x, center, scale, shift, "silu")
    check(sweeps, "gate_act", x, center, scale, shift, p, "gelu")
    check(sweeps, "gate_act_backward", g, x, center, scale, shift, "hard_swish")
    check(sweeps, "spread_act", g, x, center, scale, shift, p, e, q, r, "silu")


@EVERY_FORMAT
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_every_activation(sweeps, act, dtype, layout):
    shape = (2, 6, 5, 5)
    x, g = (2 * v for v in maps(2, shape, dtype, layout, sweeps.device))
    x[0, 0].view(-1)[:8] = torch.tensor([-6.0, -3.0, -0.0, 0.0, 3.0, 6.0, 50.0, -50.0])
    s, p, e = coefficients(3, shape, dtype, sweeps.device)
    check(sweeps, "squeeze_act", x, None, None, None, act)
    check(sweeps, "gate_act", x, None, None, None, s, act)
    check(sweeps, "gate_act_backward", g, x, None, None, None, act)
    check(sweeps, "spread_act", g, x, None, None, None, p, e, None, None, act)


@EVERY_FORMAT
def test_a_term_left_out_is_zero(sweeps, layout):
    shape, dtype = (2, 6, 5, 5), torch.float32
    x, g = maps(2, shape, dtype, layout, sweeps.device)
    a, b, c, d = coefficients(4, shape, dtype, sweeps.device)
    check(sweeps, "affine", x, None, a, None, None, False)
    check(sweeps, "affine", x, None, a, b, g, False)
    kept, *_ = check(sweeps, "affine_backward", g, None, x, None)
    assert kept is g
    check(sweeps, "spread", g, x, None, a, None, None)
    check(sweeps, "spread", g, x, None, a, b, c)
    check(sweeps, "spread_act", g, x, a, b, c, d, a, b, None, "relu")
    check(sweeps, "spread_act", g, x, a, b, None, d, a, None, c, "relu")
    check(sweeps, "gate_act", x, None, a, None, b, "silu")


@EVERY_FORMAT
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("shape", [(2, 6, 7, 7), (1, 4, 80, 80), (2, 5, 33, 33)], ids=["small", "split", "odd"])
def test_moments_survive_a_mean_of_a_thousand_deviations(sweeps, shape, dtype, layout):
    (x,) = maps(1, shape, dtype, layout, sweeps.device, mean=1000)
    check(sweeps, "moments", x)
    x[:, :, :2] = 0  # a border that misleads whoever takes the first pixels for typical
    check(sweeps, "moments", x)
    x[:] = x[0, 0, 3, 3]
    mean, rest, m2 = sweeps.moments(x)
    assert torch.equal(mean, x[:, :, 0, 0])
    assert not rest.any()
    assert not m2.any()


@EVERY_FORMAT
def test_nan_stays_nan_and_where_it_is(sweeps, layout):
    shape = (2, 6, 7, 7)
    x, g = maps(2, shape, torch.float32, layout, sweeps.device)
    a, b, c = coefficients(3, shape, torch.float32, sweeps.device)
    x[1, 2, 3, 4] = torch.nan
    here = torch.zeros_like(x, dtype=torch.bool)
    here[1, 2, 3, 4] = True
    for act in ACTS:
        assert torch.equal(sweeps.gate_act(x, a, b, c, a, act).isnan(), here)
        assert torch.equal(sweeps.squeeze_act(x, a, b, c, act)[0].isnan(), here.any((2, 3), keepdim=False))
    out = sweeps.affine(x, a, b, c, None, True)
    assert torch.equal(out.isnan(), here)
    g1, total, _ = sweeps.affine_backward(g, out, g, None)
    assert g1[1, 2, 3, 4] == g[1, 2, 3, 4]
    assert total.isfinite().all()
    assert torch.equal(sweeps.moments(x)[1].isnan(), here.any((2, 3), keepdim=False))
    assert torch.equal(sweeps.spread(g, x, a, b, c, a).isnan(), here)


PLANS = [
    Plan(Tile("last", 1, 1, 1, 4, 1, True), 3, 1),
    Plan(Tile("last", 2, 2, 4, 16, 1, False), 16, 8),
    Plan(Tile("first", 1, 4, 2, 2, 1, False), 8, 2),
    Plan(Tile("first", 1, 1, 64, 1, 1, True), 64, 1),
    Plan(Tile("flat", 1, 1, 32, 1, 1, True), 32, 1),
    Plan(Tile("flat", 1, 1, 256, 8, 1, False), 256, 1),
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.tile.layout}{plan.rows}")
def test_any_plan_gives_the_same(sweeps, plan):
    shape, layout = (2, 6, 5, 9), "last" if plan.tile.layout == "last" else "first"
    x, g = maps(2, shape, torch.float32, layout, sweeps.device)
    a, b, c, d = coefficients(4, shape, torch.float32, sweeps.device)
    check(sweeps, "affine", x, a, b, c, g, True, plan=plan)
    check(sweeps, "spread", g, x, a, b, c, d, plan=plan)
    if plan.tile.layout != "flat":
        check(sweeps, "moments", x, plan=plan)
        check(sweeps, "affine_backward", g, x, x, a, plan=plan)


def test_the_same_bits_every_time(sweeps):
    (x,) = maps(1, (1, 4, 80, 80), torch.float32, "last", sweeps.device)
    for first, second in zip(sweeps.moments(x), sweeps.moments(x), strict=True):
        assert torch.equal(first, second)


class Traffic:
    """Stands for the interpreter's memory, and notes where elements of two bytes are read and written."""

    def __init__(self, memory) -> None:
        self.memory, self.reads, self.writes = memory, [], []

    def __getattr__(self, name):
        return getattr(self.memory, name)

    def load(self, pointers, mask, other, dtype):
        if dtype.itemsize == 2:
            self.reads.append(pointers[mask])
        return self.memory.load(pointers, mask, other, dtype)

    def store(self, pointers, values, mask):
        if values.dtype.itemsize == 2:
            self.writes.append(pointers[mask])
        return self.memory.store(pointers, values, mask)


def passes(accesses: list[np.ndarray], over: list[Tensor]) -> list[int]:
    """How often each map was gone over; every element of it as often as any, and nothing beside the maps."""
    accesses = np.concatenate([*accesses, np.empty(0, np.uint64)]).astype(np.int64)
    result = []
    for v in over:
        indices = (accesses - v.data_ptr()) // v.element_size()
        inside = (indices >= 0) & (indices < v.numel())
        times = np.unique(np.bincount(indices[inside], minlength=v.numel()))
        assert len(times) == 1, f"elements were touched {times} times"
        result.append(int(times[0]))
        accesses = accesses[~inside]
    assert not accesses.size, "memory beside the maps was touched"
    return result


@EVERY_FORMAT
@pytest.mark.parametrize("shape", [(2, 5, 7, 9), (2, 16, 8, 8), (1, 3, 40, 41)], ids=["odd", "even", "split"])
def test_every_map_is_moved_once(interpreted, as_on_a_gpu, poison, monkeypatch, shape, layout):
    x, g, shortcut, out = maps(4, shape, torch.bfloat16, layout, "cpu")
    a, b, c, d = coefficients(4, shape, torch.bfloat16, "cpu")
    calls = {  # maps read, maps written
        ("moments", x): (1, 0),
        ("affine", x, a, b, c, shortcut, True): (2, 1),
        ("affine", x, a, b, c, None, True): (1, 1),
        ("affine_backward", g, out, x, a): (3, 1),
        ("affine_backward", g, None, x, a): (2, 0),
        ("spread", g, x, a, b, c, d): (2, 1),
        ("spread", g, x, a, b, None, d): (1, 1),
        ("squeeze_act", x, a, b, c, "silu"): (1, 0),
        ("gate_act", x, a, b, c, d, "silu"): (1, 1),
        ("gate_act_backward", g, x, a, b, c, "silu"): (2, 0),
        ("spread_act", g, x, a, b, c, d, a, b, c, "silu"): (2, 1),
    }
    for (name, *args), (reads, writes) in calls.items():
        traffic = Traffic(interpreter._interpreter)
        with monkeypatch.context() as patch:
            patch.setattr(interpreter, "_interpreter", traffic)
            results = tuple_of(getattr(interpreted, name)(*args))
        written = [v for v in results if v.dim() == 4 and v is not g]
        given = [x, g, shortcut, out]
        assert sum(passes(traffic.reads, given)) == reads, name
        assert passes(traffic.writes, written) == [1] * writes, name


@pytest.mark.parametrize(
    ("n", "c", "width", "layout"),
    [
        (9, 8, 2**25 + 16, "last"),
        (9, 8, 2**25 + 16, "first"),
        (9, 8, 2**25 + 9, "flat"),
        (1, 16, 2**27 + 16, "last"),
        (1, 17, 2**27 + 16, "first"),
    ],
)
def test_elements_beyond_two_to_the_31(interpreted, as_on_a_gpu, monkeypatch, n, c, width, layout):
    """The first and the last program alone, over memory that is mapped and hardly touched."""

    class Ends(interpreter.GridExecutor):
        def __init__(self, fn, names, grid, *rest):
            super().__init__(fn, names, (2,), *rest)
            monkeypatch.setattr(builder, "set_grid_dim", lambda *_: set_dim(grid[0], 1, 1))
            monkeypatch.setattr(builder, "set_grid_idx", lambda i, *_: set_index(i * (grid[0] - 1), 0, 0))

        def _restore_args_dev(self, *_):
            """Nothing to copy back: the interpreter worked on the tensors themselves."""

    builder = interpreter.interpreter_builder
    set_dim, set_index = builder.set_grid_dim, builder.set_grid_idx
    monkeypatch.setattr(interpreter, "GridExecutor", Ends)
    x = torch.empty((n, 1, width, c) if layout == "last" else (n, c, 1, width), dtype=torch.float16)
    x = x.permute(0, 3, 1, 2) if layout == "last" else x
    assert x.numel() > 2**31
    ends = [(0, 0, 0, slice(0, 4)), (n - 1, c - 1, 0, slice(width - 4, width))]
    for end in ends:
        x[end] = torch.tensor([1.0, -2.0, 3.0, 4.0])
    scale = torch.arange(1.0, 1 + n * c).view(n, c)
    out = interpreted.affine(x, None, scale, None, None, False)
    for end in ends:
        assert torch.equal(out[end], (x[end] * scale[end[:2]]).half())


def test_sums_of_a_split_image_are_merged(interpreted):
    """The cases above do split images."""
    x = torch.zeros(1, 4, 80, 80)
    assert interpreted._planned("sums", 1, x, None)[1] > 1
    assert interpreted._planned("sums", 1, x.contiguous(memory_format=torch.channels_last), None)[1] > 1
