"""A convolution with norm and activation, against definitions in NumPy."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from senet.models.conv import ConvNormAct


@pytest.mark.parametrize("act", [True, False])
@pytest.mark.parametrize("train", [True, False])
def test_convolution_norm_relu(train, act, naive, randomise):
    layer = randomise(ConvNormAct(4, 6, (1, 3), stride=2, padding=0, groups=2, eps=0.5, act=act)).double()
    x = torch.randn(2, 4, 5, 7, dtype=torch.float64)
    y = layer.train(train)(x)
    convolved = nn.functional.conv2d(x, layer.conv.weight, stride=2, groups=2)
    expected = naive.norm(layer.bn, naive.array(convolved))
    torch.testing.assert_close(y, torch.from_numpy(naive.activations["relu"](expected) if act else expected))
    assert y.shape == (2, 6, 3, 3)
    assert bool((y < 0).any()) != act


def test_names_are_timms():
    names = [key for key, _ in ConvNormAct(2, 3, 1).named_parameters()]
    assert names == ["conv.weight", "bn.weight", "bn.bias"]


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5, (1, 7), (7, 1)])
def test_without_padding_given_the_size_stays(kernel, dilation):
    layer = ConvNormAct(2, 3, kernel, dilation=dilation)
    assert layer.conv.dilation == (dilation, dilation)
    assert layer(torch.randn(2, 2, 9, 8)).shape == (2, 3, 9, 8)
