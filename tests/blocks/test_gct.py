from __future__ import annotations

import numpy as np
import pytest
import torch

from senet.blocks import GCT
from senet.errors import InputError


def built(channels, **options):
    block = GCT(channels, **options)
    for p in block.parameters():
        torch.nn.init.uniform_(p, -1.5, 1.5)
    return block


@pytest.mark.parametrize("size", [(2, 16, 5, 7), (1, 1, 1, 1), (3, 5, 2, 1)], ids=str)
@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_equation(size, norm, naive):
    block = built(size[1], norm=norm).double()
    u = torch.randn(size, dtype=torch.float64) * 2
    x = u.numpy()
    alpha, gamma, beta = (naive.array(p) for p in (block.alpha, block.gamma, block.beta))
    if norm == "l2":
        e = alpha * np.sqrt((x**2).sum(axis=(2, 3), keepdims=True) + 1e-5)
        relative = e / np.sqrt((e**2).mean(axis=1, keepdims=True) + 1e-5)
    else:
        e = alpha * np.abs(x).sum(axis=(2, 3), keepdims=True)
        relative = e / (np.abs(e).mean(axis=1, keepdims=True) + 1e-5)
    expected = x * (1 + np.tanh(gamma * relative + beta))
    np.testing.assert_allclose(block(u).detach(), expected, rtol=1e-10, atol=1e-12)


def test_a_new_block_is_the_identity_with_three_parameters_a_channel():
    block = GCT(8)
    u = torch.randn(2, 8, 5, 7)
    assert torch.equal(block(u), u)
    assert sum(p.numel() for p in block.parameters()) == 3 * 8


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_gates_of_half_precision_do_not_overflow(norm):
    block = built(2, norm=norm).half()
    u = torch.full((1, 2, 100, 100), 500.0, dtype=torch.float16)
    expected = block.double().gates(u.double())
    torch.testing.assert_close(block.half().gates(u).double(), expected, rtol=1e-5, atol=1e-5)


def test_an_unknown_norm_is_refused():
    with pytest.raises(InputError, match=r"^norm is 'l3'; accepted: 'l2', 'l1'$"):
        GCT(4, norm="l3")
