from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from senet.blocks import BAM
from senet.errors import InputError


def dilated(weight, dilation):
    """The same kernel with zeros between its weights."""
    size = dilation * (weight.shape[2] - 1) + 1
    wide = np.zeros((*weight.shape[:2], size, size))
    wide[:, :, ::dilation, ::dilation] = weight
    return wide


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(3, 8, 5, 7), (3, 1, 1, 6), (4, 5, 1, 1)], ids=str)
@pytest.mark.parametrize(
    "options",
    [{}, {"reduction": 2, "combine": "add"}, {"hidden_channels": 3, "dilation": 2}, {"rounding": "timm"}],
    ids=str,
)
def test_equation(size, options, training, naive, randomise):
    block = randomise(BAM(size[1], **options)).double().train(training)
    u = torch.randn(size, dtype=torch.float64) * 2
    x = u.numpy()
    hidden = naive.norm(block.bn, naive.linear(block.fc1, x.mean(axis=(2, 3), keepdims=True)))
    by_channel = naive.linear(block.fc2, np.maximum(hidden, 0))
    by_position = x
    for layer in block.spatial:
        if isinstance(layer, nn.Conv2d):
            weight = dilated(naive.array(layer.weight), layer.dilation[0])
            by_position = naive.conv(by_position, weight, stride=1, padding=weight.shape[2] // 2)
            by_position = by_position + naive.array(layer.bias)[None, :, None, None]
        else:
            by_position = (
                naive.norm(layer, by_position) if isinstance(layer, nn.BatchNorm2d) else np.maximum(by_position, 0)
            )
    logits = by_channel + by_position if options.get("combine") == "add" else by_channel * by_position
    expected = x * (1 + naive.gates["sigmoid"](logits))
    np.testing.assert_allclose(block(u).detach(), expected, rtol=1e-8, atol=1e-10)


def test_parameters_are_the_authors():
    channel = 256 * 16 + 16 + 2 * 16 + 16 * 256 + 256
    spatial = 256 * 16 + 16 + 2 * (16 * 16 * 9 + 16) + 3 * 2 * 16 + 16 + 1
    assert sum(p.numel() for p in BAM(256).parameters()) == channel + spatial


def test_one_image_in_training_is_refused_by_the_norm():
    with pytest.raises(ValueError, match=r"Expected more than 1 value per channel"):
        BAM(4)(torch.randn(1, 4, 5, 7))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"combine": "max"}, r"^combine is 'max'; accepted: 'multiply', 'add'$"),
        ({"dilation": 0}, r"^dilation is 0; accepted: 1 or more$"),
        ({"reduction": 2, "hidden_channels": 2}, r"both say"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        BAM(8, **options)
