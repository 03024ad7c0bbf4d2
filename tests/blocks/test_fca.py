from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from senet.blocks import FcaSE, SqueezeExcite
from senet.blocks.fca import FREQUENCIES
from senet.errors import InputError


def basis(frequency, height, width):
    """The authors' orthonormal cosines, element by element."""
    f, g = frequency[0] * (height // 7), frequency[1] * (width // 7)

    def one(position, k, length):
        return math.cos(math.pi * k * (position + 0.5) / length) * math.sqrt((2 if k else 1) / length)

    return np.array([[one(i, f, height) * one(j, g, width) for j in range(width)] for i in range(height)])


def naive_squeeze(u, top, grid):
    height, width = grid or (max(7, n // 7 * 7) for n in u.shape[2:])
    pooled = F.adaptive_avg_pool2d(u, (height, width)).numpy()
    channels = u.shape[1]
    chosen = [FREQUENCIES[c * top // channels] for c in range(channels)]
    z = [(pooled[:, c] * basis(f, height, width)).sum(axis=(1, 2)) for c, f in enumerate(chosen)]
    return np.stack(z, axis=1)[:, :, None, None]


@pytest.mark.parametrize("size", [(2, 16, 7, 14), (1, 5, 16, 9), (2, 3, 1, 1), (1, 32, 5, 7)], ids=str)
@pytest.mark.parametrize("top", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("grid", [None, (7, 7), (14, 7)])
def test_equation(size, top, grid, naive):
    block = FcaSE(size[1], top=top, grid=grid, reduction=2).double()
    u = torch.randn(size, dtype=torch.float64) * 2
    z = naive_squeeze(u, top, grid)
    np.testing.assert_allclose(block.squeeze(u), z, rtol=1e-8, atol=1e-10)
    logits = naive.linear(block.fc2, np.maximum(naive.linear(block.fc1, z), 0))
    np.testing.assert_allclose(block(u).detach(), u.numpy() * naive.gates["sigmoid"](logits), rtol=1e-9, atol=1e-11)


def test_frequencies_are_32_different_ones_and_the_first_is_the_average():
    assert len(FREQUENCIES) == len(set(FREQUENCIES)) == 32
    assert FREQUENCIES[0] == (0, 0)
    assert {max(f) for f in FREQUENCIES} == set(range(7))
    u = torch.randn(2, 5, 14, 21, dtype=torch.float64)
    torch.testing.assert_close(FcaSE(5, top=1).squeeze(u), math.sqrt(14 * 21) * u.mean((2, 3), keepdim=True))


def test_bases_are_orthonormal():
    rows, columns = FcaSE(32, top=32).squeeze.bases(14, 21, torch.float64)
    flat = (rows.mT * columns.mT).flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(32, dtype=torch.float64))


def test_takes_the_authors_weights_and_compares_their_bases():
    ours = FcaSE(32, reduction=8)
    theirs = nn.Sequential(nn.Linear(32, 4, bias=False), nn.ReLU(), nn.Linear(4, 32, bias=False))
    state = {f"fc.{key}": value for key, value in theirs.state_dict().items()}
    bases = torch.stack([torch.from_numpy(basis(FREQUENCIES[c // 2], 14, 14)) for c in range(32)]).float()
    ours.load_state_dict({**state, "dct_layer.weight": bases}, strict=True)
    assert torch.equal(ours.fc2.weight[:, :, 0, 0], theirs[2].weight)
    z = (torch.ones(1, 32, 14, 14) * bases).sum((2, 3))
    torch.testing.assert_close(ours.squeeze(torch.ones(1, 32, 14, 14)).flatten(1), z, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match=r"^dct_layer.weight are not the cosines of this block"):
        FcaSE(32, reduction=8, top=8).load_state_dict({**state, "dct_layer.weight": bases})


def test_state_is_that_of_se_without_biases():
    assert FcaSE(32).state_dict().keys() == SqueezeExcite(32, bias=False).state_dict().keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 3}, r"^top is 3; accepted: 1, 2, 4, 8, 16, 32$"),
        ({"grid": (7, 0)}, r"^grid is \(7, 0\); accepted: height and width, multiples of 7$"),
        ({"grid": (8, 8)}, r"^grid is \(8, 8\)"),
        ({"reduction": 2, "hidden_channels": 2}, r"both say"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        FcaSE(8, **options)
