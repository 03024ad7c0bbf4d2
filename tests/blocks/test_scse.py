from __future__ import annotations

import numpy as np
import pytest
import torch

from senet.blocks import SCSE
from senet.blocks.scse import SpatialSE
from senet.errors import InputError


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("size", [(2, 16, 5, 7), (1, 1, 1, 1), (3, 1, 2, 13)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"combine": "max"},
        {"combine": "add"},
        {"bias": False},
        {"reduction": 4, "combine": "add"},
        {"hidden_channels": 5},
        {"rounding": "timm"},
    ],
    ids=str,
)
def test_equation(size, options, naive, randomise):
    block = randomise(SCSE(size[1], **options)).double()
    u = torch.randn(size, dtype=torch.float64) * 2
    x = u.numpy()
    hidden = np.maximum(naive.linear(block.cse.fc1, x.mean(axis=(2, 3), keepdims=True)), 0)
    by_channel = x * sigmoid(naive.linear(block.cse.fc2, hidden))
    by_position = x * sigmoid(naive.linear(block.sse.conv, x))
    expected = by_channel + by_position if options.get("combine") == "add" else np.maximum(by_channel, by_position)
    np.testing.assert_allclose(block(u).detach(), expected, rtol=1e-10, atol=1e-12)


def test_spatial_equation(naive, randomise):
    block = randomise(SpatialSE(5)).double()
    u = torch.randn(2, 5, 3, 7, dtype=torch.float64)
    assert block.gates(u).shape == (2, 1, 3, 7)
    expected = u.numpy() * sigmoid(naive.linear(block.conv, u.numpy()))
    np.testing.assert_allclose(block(u).detach(), expected, rtol=1e-10, atol=1e-12)


def test_reduction_is_the_authors():
    assert SCSE(64).cse.fc1.out_channels == 32
    assert SCSE(64, hidden_channels=3).cse.fc1.out_channels == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"combine": "mean"}, r"combine is 'mean'; accepted: 'max', 'add'"),
        ({"reduction": 2, "hidden_channels": 2}, r"both say"),
        ({"reduction": 0}, r"reduction is 0; accepted: above 0"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        SCSE(8, **options)
