from __future__ import annotations

import numpy as np
import pytest
import torch

from senet.blocks import GSoP
from senet.errors import InputError


def naive_gsop(block, u, naive, stride, gate):
    positive = np.maximum(u, 0)[:, :, ::stride, ::stride]
    v = np.maximum(naive.norm(block.bn, naive.linear(block.reduce, positive)), 0)
    n, d = v.shape[:2]
    second = np.stack([np.cov(image.reshape(d, -1), bias=True).reshape(d, d) for image in v])
    rows = naive.norm(block.row_bn, second[..., None])[..., 0]
    weight, bias = naive.array(block.row_conv.weight)[:, 0, :, 0], naive.array(block.row_conv.bias)
    four = np.zeros((n, 4 * d, 1, 1))
    for out in range(4 * d):
        four[:, out, 0, 0] = rows[:, out // 4] @ weight[out] + bias[out]
    return u * naive.gates[gate](naive.linear(block.fc, four))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(3, 6, 5, 7), (2, 1, 1, 13), (4, 5, 1, 1)], ids=str)
@pytest.mark.parametrize(("d", "stride", "gate"), [(4, 1, "sigmoid"), (1, 2, "hard_sigmoid"), (3, 3, "tanh")])
def test_equation(size, d, stride, gate, training, naive, randomise):
    block = randomise(GSoP(size[1], hidden_channels=d, stride=stride, gate=gate)).double().train(training)
    u = torch.randn(size, dtype=torch.float64) * 2
    expected = naive_gsop(block, u.numpy(), naive, stride, gate)
    np.testing.assert_allclose(block(u).detach(), expected, rtol=1e-8, atol=1e-10)


def test_parameters_are_the_authors():
    reduce, norms, row_conv, fc = 256 * 128 + 128, 4 * 128, 4 * 128 * (128 + 1), 4 * 128 * 256 + 256
    assert sum(p.numel() for p in GSoP(256).parameters()) == reduce + norms + row_conv + fc


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_channels": 0}, r"^hidden_channels is 0; accepted: 1 or more$"),
        ({"stride": 0}, r"^stride is 0; accepted: 1 or more$"),
        ({"gate": "softmax"}, r"^gate is 'softmax'"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        GSoP(8, **options)
