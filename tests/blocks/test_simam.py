from __future__ import annotations

import numpy as np
import pytest
import torch

from senet.blocks import SimAM
from senet.errors import InputError


@pytest.mark.parametrize("size", [(2, 3, 5, 7), (1, 1, 1, 2), (3, 5, 1, 1)], ids=str)
@pytest.mark.parametrize("e_lambda", [1e-4, 0.5])
def test_equation(size, e_lambda, naive):
    u = torch.randn(size, dtype=torch.float64) * 2
    x = u.numpy()
    d = (x - x.mean(axis=(2, 3), keepdims=True)) ** 2
    variance = d.sum(axis=(2, 3), keepdims=True) / max(size[2] * size[3] - 1, 1)
    expected = x * naive.gates["sigmoid"](d / (4 * (variance + e_lambda)) + 0.5)
    np.testing.assert_allclose(SimAM(size[1], e_lambda=e_lambda)(u), expected, rtol=1e-12)


def test_gates_are_of_elements_without_parameters():
    block = SimAM(3)
    assert list(block.parameters()) == []
    s = block.gates(torch.randn(2, 3, 5, 7))
    assert s.shape == (2, 3, 5, 7)
    assert s.min() >= torch.sigmoid(torch.tensor(0.5))


@pytest.mark.parametrize("e_lambda", [0.0, -1.0, float("nan")])
def test_refusals(e_lambda):
    with pytest.raises(InputError, match=r"^e_lambda is .*; accepted: above 0"):
        SimAM(4, e_lambda=e_lambda)
