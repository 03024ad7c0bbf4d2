from __future__ import annotations

import numpy as np
import pytest
import torch

from senet.kernels.reference import accumulator_dtype, scale, squeeze_avg, squeeze_max

SIZES = [(2, 5, 3, 7), (1, 1, 1, 1), (1, 3, 1, 13), (3, 1, 11, 2)]
HALVES = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_squeezes_are_at_least_float32(dtype, wide):
    u = torch.randn(2, 3, 4, 5).to(dtype)
    assert accumulator_dtype(dtype) == wide
    assert squeeze_avg(u).dtype == squeeze_max(u).dtype == wide


@pytest.mark.parametrize("size", SIZES)
def test_equations(size):
    u, s = torch.randn(size, dtype=torch.float64), torch.rand(*size[:2], 1, 1, dtype=torch.float64)
    n, c, h, w = size
    avg, top, scaled = np.zeros((n, c, 1, 1)), np.zeros((n, c, 1, 1)), np.zeros(size)
    for a in range(n):
        for b in range(c):
            values = [u[a, b, i, j].item() for i in range(h) for j in range(w)]
            avg[a, b], top[a, b] = sum(values) / (h * w), max(values)
            scaled[a, b] = u[a, b].numpy() * s[a, b].item()
    np.testing.assert_allclose(squeeze_avg(u).numpy(), avg, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(squeeze_max(u).numpy(), top)
    np.testing.assert_array_equal(scale(u, s).numpy(), scaled)


def test_average_of_a_large_half_precision_map_does_not_overflow():
    u = torch.full((1, 1, 300, 300), 1e3, dtype=torch.float16)
    assert u.float().sum() > torch.finfo(torch.float16).max
    assert squeeze_avg(u).item() == 1e3


def test_average_is_finer_than_bfloat16():
    step = torch.finfo(torch.bfloat16).eps
    u = torch.tensor([1, 1 + step]).repeat(2048).reshape(1, 1, 64, 64).to(torch.bfloat16)
    assert squeeze_avg(u).item() == 1 + step / 2


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
def test_average_agrees_with_float64(dtype, assert_agrees):
    u = (torch.randn(2, 7, 31, 29) + 3).to(dtype)
    assert_agrees(squeeze_avg(u).to(dtype), u.mean((2, 3), keepdim=True), u.double().mean((2, 3), keepdim=True))


@pytest.mark.parametrize("dtype", HALVES)
def test_scale_keeps_the_dtype_of_the_map(dtype):
    u, s = torch.randn(2, 3, 4, 5).to(dtype), torch.rand(2, 3, 1, 1)
    x = scale(u, s)
    assert x.dtype == dtype
    assert torch.equal(x, u * s.to(dtype))


@pytest.mark.parametrize("gate", [(2, 5, 1, 1), (2, 1, 3, 7), (2, 5, 3, 7)])
def test_scale_keeps_the_memory_format(gate):
    u, s = torch.randn(2, 5, 3, 7).to(memory_format=torch.channels_last), torch.rand(gate)
    assert scale(u, s).is_contiguous(memory_format=torch.channels_last)
    assert scale(u.contiguous(), s.to(memory_format=torch.channels_last)).is_contiguous()


@pytest.mark.parametrize("function", [squeeze_avg, squeeze_max])
@pytest.mark.parametrize("size", SIZES)
def test_gradients(function, size):
    u = torch.randn(size, dtype=torch.float64, requires_grad=True)
    s = torch.rand(*size[:2], 1, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (u,))
    assert torch.autograd.gradcheck(scale, (u, s))
