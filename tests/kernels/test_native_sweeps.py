from __future__ import annotations

import multiprocessing
import os

import pytest
import torch

from senet.errors import InputError
from senet.kernels import native_build, native_sweeps, plain_sweeps
from senet.kernels.reference import accumulator_dtype

SWEEPS = pytest.mark.parametrize("sweeps", [plain_sweeps, native_sweeps], ids=["plain", "native"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
ACTS = ["none", "relu", "relu6", "silu", "hard_swish", "gelu"]
# odd and prime sides, one pixel, one image, one channel; several tiles and several chunks, of planes and of rows
SIZES = [(3, 5, 7, 4), (2, 96, 13, 11), (1, 17, 1, 1), (4, 1, 5, 5), (1, 3, 211, 191), (1, 1040, 9, 8), (2, 33, 1, 67)]


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch):
    """Memory nobody wrote comes out as NaN."""
    empty_like, new_empty = torch.empty_like, torch.Tensor.new_empty
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: empty_like(*a, **k).fill_(float("nan")))
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *a, **k: new_empty(*a, **k).fill_(float("nan")))


def _wide(coefficient):
    return 0 if coefficient is None else coefficient[:, :, None, None]


def _slope(u, act):
    u = u.clone().requires_grad_()
    return torch.autograd.grad(_value(u, act).sum(), u)[0]


def _value(u, act):
    F = torch.nn.functional
    acts = {"relu": F.relu, "relu6": F.relu6, "silu": F.silu, "hard_swish": F.hardswish, "gelu": F.gelu}
    return acts[act](u) if act != "none" else u * 1


def _sum(map_):
    return map_.sum((2, 3))


class Formulas:
    """The sweeps as the contract states them, on whatever dtype they are given."""

    @staticmethod
    def moments(x):
        mean = x.mean((2, 3))
        return mean, _sum((x - _wide(mean)) ** 2)

    @staticmethod
    def affine(x, center, scale, shift, shortcut, relu):
        out = _wide(scale) * (x - _wide(center)) + _wide(shift) + (0 if shortcut is None else shortcut)
        return (out.relu() if relu else out,)

    @staticmethod
    def affine_backward(g, out, x, center):
        g1 = g if out is None else torch.where(out <= 0, 0, g)
        return g1, _sum(g1), _sum(g1 * (x - _wide(center)))

    @staticmethod
    def spread(g, x, center, p, q, r):
        return (_wide(p) * g + _wide(q) * (x - _wide(center)) + _wide(r),)

    @staticmethod
    def _u(x, center, scale, shift):
        return x if scale is None else _wide(scale) * (x - _wide(center)) + _wide(shift)

    @classmethod
    def squeeze_act(cls, x, center, scale, shift, act):
        u = cls._u(x, center, scale, shift)
        slope = _slope(u, act)
        return tuple(m.mean((2, 3)) for m in (_value(u, act), slope, slope * (x - _wide(center))))

    @classmethod
    def gate_act(cls, x, center, scale, shift, s, act):
        return (_wide(s) * _value(cls._u(x, center, scale, shift), act),)

    @classmethod
    def gate_act_backward(cls, g, x, center, scale, shift, act):
        u = cls._u(x, center, scale, shift)
        slope = _slope(u, act)
        return tuple(_sum(g * m) for m in (_value(u, act), slope, slope * (x - _wide(center))))

    @classmethod
    def spread_act(cls, g, x, center, scale, shift, p, e, q, r, act):
        slope = _slope(cls._u(x, center, scale, shift), act)
        return (slope * (_wide(p) * g + _wide(e)) + _wide(q) * (x - _wide(center)) + _wide(r),)


def _material(size, dtype, layout, mean=0.0):
    """Four maps (x, g, out, shortcut) and eight coefficients."""
    generator = torch.Generator().manual_seed(hash(size) % 1000)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    maps = [(draw(*size) + (mean if i == 0 else 0)).to(dtype).contiguous(memory_format=layout) for i in range(4)]
    return maps, [draw(*size[:2]).to(accumulator_dtype(dtype)) for _ in range(8)]


def _cases(maps, c, act):
    x, g, out, shortcut = maps
    yield "moments", (x,)
    for optional in (c, [None] * 8):
        yield "affine", (x, optional[0], c[1], optional[2], shortcut, True)
        yield "affine", (x, optional[0], c[1], optional[2], None, False)
        yield "affine_backward", (g, out, x, optional[0])
        yield "affine_backward", (g, None, x, optional[0])
        yield "spread", (g, x, optional[0], c[1], optional[2], c[3])
        yield "squeeze_act", (x, optional[0], optional[1], optional[2], act)
        yield "gate_act", (x, optional[0], optional[1], optional[2], c[3], act)
        yield "gate_act_backward", (g, x, optional[0], optional[1], optional[2], act)
        yield "spread_act", (g, x, optional[0], optional[1], optional[2], c[3], c[4], optional[5], optional[6], act)
    yield "squeeze_act", (x, c[0], None, c[2], act)  # without a scale u is x itself, and the rest is measured from it


def _agrees(name, ours, arguments, dtype):
    """Ours errs at most twice what plain arithmetic in the dtype errs, or a rounding of what was added up."""
    formula = getattr(Formulas, name)

    def at(kind):
        return [a.to(kind) if isinstance(a, torch.Tensor) else a for a in arguments]

    exact, plain = formula(*at(torch.float64)), formula(*at(dtype))
    size = formula(*(a.abs() if isinstance(a, torch.Tensor) else a for a in at(torch.float64)))
    x = arguments[0]
    if name == "moments":
        ours = (ours[0], ours[2])
    for got, true, usual, scale in zip(ours, exact, plain, size, strict=True):
        a_map = got.dim() == 4
        assert got.dtype == (dtype if a_map else accumulator_dtype(dtype))
        assert got.shape == true.shape
        assert got.stride() == (x.stride() if a_map else (x.shape[1], 1))
        unit = torch.finfo(got.dtype).eps
        allowed = 2 * (usual.double() - true).abs().max() + 4 * unit * torch.maximum(scale.abs(), true.abs()).max()
        if dtype == torch.float64:  # there is nothing more exact to compare with
            allowed *= 4
        assert (got.double() - true).abs().max() <= allowed, name


@SWEEPS
@DTYPES
@LAYOUTS
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_formulas(sweeps, dtype, layout, size):
    maps, coefficients = _material(size, dtype, layout)
    for name, arguments in _cases(maps, coefficients, ACTS[sum(size) % len(ACTS)]):
        result = getattr(sweeps, name)(*arguments)
        _agrees(name, result if isinstance(result, tuple) else (result,), arguments, dtype)


@SWEEPS
@DTYPES
@LAYOUTS
@pytest.mark.parametrize("act", ACTS)
def test_activations(sweeps, dtype, layout, act):
    (x, *maps), coefficients = _material((2, 19, 5, 9), dtype, layout)
    kinks = torch.tensor([-3.0, 0.0, 3.0, 6.0, -3.1, 6.1, 30.0, -30.0, -100.0]).to(dtype)
    x[0, 0] = kinks  # nine columns
    for name, arguments in _cases([x, *maps], coefficients, act):
        result = getattr(sweeps, name)(*arguments)
        _agrees(name, result if isinstance(result, tuple) else (result,), arguments, dtype)


@SWEEPS
@LAYOUTS
@pytest.mark.parametrize("act", ACTS)
def test_slopes_at_kinks_are_pytorchs(sweeps, layout, act):
    x = torch.tensor([-3.0, 0.0, 3.0, 6.0]).repeat(2, 20, 5, 1).contiguous(memory_format=layout)
    zero, one = torch.zeros(2, 20), torch.ones(2, 20)
    dx = sweeps.spread_act(x, x, None, None, None, zero, one, None, None, act)
    torch.testing.assert_close(dx, _slope(x, act), rtol=1e-6, atol=1e-6)


@SWEEPS
@LAYOUTS
@pytest.mark.parametrize("size", [(2, 5, 71, 67), (2, 48, 14, 14), (2, 48, 1, 5)], ids=str)
def test_moments_where_the_mean_is_large(sweeps, layout, size):
    (x, *_), _ = _material(size, torch.float32, layout, mean=1e3)
    mean, rest, m2 = sweeps.moments(x)
    true_mean, true_m2 = Formulas.moments(x.double())
    torch.testing.assert_close(mean.double(), true_mean, rtol=2e-7, atol=0)
    torch.testing.assert_close(mean.double() + rest.double(), true_mean, rtol=2e-10, atol=0)
    torch.testing.assert_close(m2.double(), true_m2, rtol=1e-5, atol=0)


@SWEEPS
@DTYPES
@LAYOUTS
def test_nan_passes(sweeps, dtype, layout):
    (x, g, out, shortcut), c = _material((2, 33, 3, 7), dtype, layout)
    x[1, 2, 1, 3] = float("nan")
    out[1, 2, 1, 3] = float("nan")
    where = torch.isnan(x)
    here = where.any(3).any(2)

    def only_there(result):
        return torch.equal(torch.isnan(result), where if result.dim() == 4 else here)

    assert all(map(only_there, sweeps.moments(x)))
    assert only_there(sweeps.affine(x, c[0], c[1], c[2], shortcut, True))
    assert only_there(sweeps.spread(g, x, c[0], c[1], c[2], c[3]))
    g1, a, b = sweeps.affine_backward(g, out, g, c[0])
    assert g1[1, 2, 1, 3] == g[1, 2, 1, 3]  # as PyTorch's: dropped where out <= 0, which NaN is not
    assert not torch.isnan(torch.stack([a, b])).any()
    for act in ACTS:
        assert only_there(sweeps.gate_act(x, c[0], c[1], c[2], c[3], act))
        assert only_there(sweeps.squeeze_act(x, c[0], c[1], c[2], act)[0])
        assert only_there(sweeps.gate_act_backward(g, x, c[0], c[1], c[2], act)[0])
        assert only_there(sweeps.spread_act(g, x, c[0], c[1], c[2], c[3], c[4], c[5], c[6], act))


@LAYOUTS
def test_results_do_not_depend_on_the_threads(layout):
    maps, c = _material((2, 40, 61, 59), torch.float32, layout)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append([getattr(native_sweeps, name)(*given) for name, given in _cases(maps, c, "silu")])
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_one_openmp_runtime():
    native_build.library()
    with open("/proc/self/maps") as maps:
        files = {os.path.basename(line.split()[-1]) for line in maps}
    assert len({f for f in files if f.startswith(("libgomp", "libomp", "libiomp5"))}) == 1


@pytest.mark.parametrize(
    ("x", "shortcut", "scale", "said"),
    [
        (torch.ones(2, 3, 4, 4, dtype=torch.complex64), None, torch.ones(2, 3), "torch.complex64"),
        (torch.ones(2, 3, 4, 4, device="meta"), None, torch.ones(2, 3), "on meta"),
        (torch.ones(2, 3, 4, 8)[..., ::2], None, torch.ones(2, 3), "strides"),
        (torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last), torch.ones(2, 3), "one"),
        (torch.ones(2, 3, 4, 4), torch.ones(2, 3, 4, 5), torch.ones(2, 3), r"\(2, 3, 4, 5\)"),
        (torch.ones(2, 3, 4, 4), None, torch.ones(3), r"coefficient \(3,\)"),
        (torch.ones(2, 3, 4, 4), None, torch.ones(2, 3).double(), "torch.float64"),
    ],
)
def test_native_refuses_what_it_cannot_read(x, shortcut, scale, said):
    with pytest.raises(InputError, match=said):
        native_sweeps.affine(x, None, scale, None, shortcut, True)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A small source to build, with a cache of its own."""
    monkeypatch.setenv("SENET_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "small.cpp"
    path.write_text('extern "C" int answer() { return 42; }\n')
    return path


def test_built_once(source):
    place = native_build.build(source)
    assert place.parent == native_build.cache_folder()
    made = place.stat().st_mtime_ns
    assert native_build.build(source) == place
    assert place.stat().st_mtime_ns == made
    source.write_text('extern "C" int answer() { return 43; }\n')
    assert native_build.build(source) != place


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SENET_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native_build.cache_folder() == tmp_path / "senet"


def test_no_compiler(source, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(native_build.BuildError, match="looked for no-such-compiler"):
        native_build.build(source)
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(native_build.BuildError, match=r"looked for c\+\+, g\+\+, clang\+\+"):
        native_build.build(source)


def test_a_library_that_cannot_be_had_is_tried_once(source, monkeypatch):
    native_build._load.cache_clear()
    monkeypatch.setenv("CXX", "no-such-compiler")
    try:
        for _ in range(2):
            with pytest.raises(native_build.BuildError, match="no-such-compiler"):
                native_build.library()
        assert native_build._load.cache_info().misses == 1
        native_build._load.cache_clear()
        source.write_text("no library\n")
        monkeypatch.setattr(native_build, "build", lambda: source)
        with pytest.raises(native_build.BuildError, match=r"cannot load .*small.cpp: .*\$CXX"):
            native_build.library()
    finally:
        native_build._load.cache_clear()


def test_broken_source(source):
    source.write_text("int answer() { return forty_two; }\n")
    with pytest.raises(native_build.BuildError, match="forty_two"):
        native_build.build(source)
    assert not list(native_build.cache_folder().iterdir())


def test_folder_that_cannot_be_written(source, monkeypatch):
    monkeypatch.setenv("SENET_CACHE", "/proc/senet")
    with pytest.raises(native_build.BuildError, match=r"cannot write /proc/senet: .*SENET_CACHE"):
        native_build.build(source)


def test_other_systems_are_told(source, monkeypatch):
    monkeypatch.setattr(native_build.sys, "platform", "win32")
    with pytest.raises(native_build.BuildError, match="win32"):
        native_build.build(source)


def test_two_processes_build_at_once(source):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.map(native_build.build, [source, source], chunksize=1)
    assert first == second
    assert [path.name for path in native_build.cache_folder().iterdir()] == [first.name]


@pytest.mark.parametrize("channels", [24, 64, 512, 1024])
def test_sums_over_rows_of_channels_err_at_most_twice_what_pytorchs_do(channels):
    """The gradient of a norm's weight in (N, L, C) memory; the largest errors of several seeds are averaged."""
    errors = [0.0, 0.0]
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        x, g = (torch.randn(2, 200, channels, generator=generator).transpose(1, 2) for _ in range(2))
        center = x.double().mean((0, 2)).float()
        wide_x, wide_g = (t.transpose(1, 2)[:, :, None].permute(0, 3, 1, 2) for t in (x, g))
        ours = native_sweeps.affine_backward(wide_g, None, wide_x, center.expand(2, -1).contiguous())[2].double().sum(0)
        exact = (g.double() * (x.double() - center.double()[:, None])).sum((0, 2))
        theirs = torch.nn.BatchNorm1d(channels)
        theirs(x).backward(g)
        plain = torch.nn.BatchNorm1d(channels).double()
        plain(x.double()).backward(g.double())
        errors[0] += float((ours - exact).abs().max())
        errors[1] += float((theirs.weight.grad.double() - plain.weight.grad).abs().max())
    assert errors[0] <= 2 * errors[1]
