from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from senet.blocks import GatherExcite, SqueezeExcite
from senet.errors import InputError

SIZES = [(2, 3, 7, 7), (1, 2, 13, 5), (2, 1, 8, 16), (2, 4, 1, 1), (1, 2, 2, 11)]


def windows(u, extent):
    """Averages over windows of 2e - 1 around each e-th position, of what lies inside the map."""
    if extent == 0:
        return u.mean(axis=(2, 3), keepdims=True)
    n, c, height, width = u.shape
    rows, columns = range(0, height, extent), range(0, width, extent)
    z = np.zeros((n, c, len(rows), len(columns)))
    for a, i in enumerate(rows):
        for b, j in enumerate(columns):
            top, left = max(0, i - extent + 1), max(0, j - extent + 1)
            z[:, :, a, b] = u[:, :, top : i + extent, left : j + extent].mean(axis=(2, 3))
    return z


def gathered(block, u, naive):
    """The learnt gathering: each convolution with its norm, ReLU between."""
    layers = list(block.gather)
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            stride, padding = layer.stride[0], layer.padding[0]
            u = naive.conv(u, naive.array(layer.weight), stride=stride, padding=padding, groups=layer.groups)
        elif isinstance(layer, nn.BatchNorm2d):
            u = naive.norm(layer, u)
        else:
            assert isinstance(layer, nn.ReLU)
            assert index < len(layers) - 1
            u = np.maximum(u, 0)
    return u


def naive_ge(block, u, naive, *, extent=0, gather="avg", mlp=False, gate="sigmoid"):
    z = windows(u, extent) if gather == "avg" else gathered(block, u, naive)
    if mlp:
        first, second = (layer for layer in block.mlp if isinstance(layer, nn.Conv2d))
        z = naive.linear(second, np.maximum(naive.linear(first, np.maximum(z, 0)), 0))
    s, (height, width) = naive.gates[gate](z), u.shape[2:]
    x = np.zeros_like(u)
    for i in range(height):
        for j in range(width):
            x[:, :, i, j] = u[:, :, i, j] * s[:, :, i * s.shape[2] // height, j * s.shape[3] // width]
    return x


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mlp", [False, True])
@pytest.mark.parametrize("gather", ["avg", "conv"])
@pytest.mark.parametrize("extent", [0, 2, 4, 8])
def test_equation(extent, gather, mlp, size, training, naive, randomise):
    options = {"extent": extent, "gather": gather, "mlp": mlp}
    map_size = {"map_size": size[2:]} if gather == "conv" and extent == 0 else {}
    block = randomise(GatherExcite(size[1], **options, **map_size)).double().train(training)
    u = torch.randn(size, dtype=torch.float64) * 2
    gathers_one = training and gather == "conv" and size[0] * np.prod([-(-n // (extent or n)) for n in size[2:]]) == 1
    if gathers_one:
        with pytest.raises(ValueError, match=r"Expected more than 1 value per channel"):
            block(u)
        return
    expected = naive_ge(block, u.numpy(), naive, **options)
    np.testing.assert_allclose(block(u).detach(), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid", "tanh", "relu"])
def test_gates(gate, naive):
    block = GatherExcite(3, extent=2, gate=gate).double()
    u = torch.randn(2, 3, 5, 7, dtype=torch.float64) * 4
    expected = naive_ge(block, u.numpy(), naive, extent=2, gate=gate)
    np.testing.assert_allclose(block(u).detach(), expected, rtol=1e-10, atol=1e-12)


def test_has_the_parameters_of_its_form():
    def parameters(**options):
        return sum(p.numel() for p in GatherExcite(64, **options).parameters())

    mlp = 2 * 64 * 4 + 4 + 64
    assert parameters() == parameters(extent=4) == 0
    assert parameters(extent=2, gather="conv") == 64 * (9 + 2)
    assert parameters(extent=8, gather="conv") == 3 * 64 * (9 + 2)
    assert parameters(gather="conv", map_size=(7, 5)) == 64 * (35 + 2)
    assert parameters(mlp=True) == mlp
    assert parameters(extent=4, gather="conv", mlp=True) == 2 * 64 * (9 + 2) + mlp
    assert parameters(mlp=True, reduction=8) == 2 * 64 * 8 + 8 + 64
    assert parameters(mlp=True, hidden_channels=3) == 2 * 64 * 3 + 3 + 64
    assert parameters(mlp=True, rounding="timm") == 2 * 64 * 8 + 8 + 64


def test_with_averages_over_the_map_and_mlp_it_is_se_on_rectified_averages(randomise):
    block = randomise(GatherExcite(16, mlp=True))
    se = SqueezeExcite(16)
    se.fc1.load_state_dict(block.mlp[1].state_dict())
    se.fc2.load_state_dict(block.mlp[3].state_dict())
    u = torch.rand(2, 16, 5, 7)  # averages are positive, so the ReLU before the layers does nothing
    torch.testing.assert_close(block(u), se(u))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extent": 3}, r"extent is 3; accepted: 0 \(the whole map\), 2, 4, 8"),
        ({"gather": "max"}, r"gather is 'max'; accepted: 'avg', 'conv'"),
        ({"gather": "conv"}, r"give map_size=\(height, width\)"),
        ({"map_size": (7, 7)}, r"map_size is the kernel of gather='conv' over the whole map"),
        ({"gather": "conv", "extent": 2, "map_size": (7, 7)}, r"map_size is the kernel of gather='conv'"),
        ({"reduction": 4}, r"give mlp=True"),
        ({"hidden_channels": 4}, r"give mlp=True"),
        ({"mlp": True, "reduction": 4, "hidden_channels": 4}, r"both say"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        GatherExcite(8, **options)
