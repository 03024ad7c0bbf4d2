"""What all tests share: one thread, fixed seeds, and the few tools that compare tensors with numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def _same_every_time() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def randomise() -> Callable[[nn.Module], nn.Module]:
    """Gives a module weights, norm weights and running statistics that hide nothing: no zeros, no ones."""

    def apply(module: nn.Module) -> nn.Module:
        for child in module.modules():
            if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
                nn.init.uniform_(child.weight, 0.5, 1.5)
                nn.init.uniform_(child.bias, -0.5, 0.5)
                nn.init.uniform_(child.running_mean, -0.5, 0.5)
                nn.init.uniform_(child.running_var, 0.5, 1.5)
            elif isinstance(child, (nn.Conv1d, nn.Conv2d, nn.Linear)) and child.bias is not None:
                nn.init.uniform_(child.bias, -0.5, 0.5)
        return module

    return apply


@pytest.fixture
def assert_agrees() -> Callable[[Tensor, Tensor, Tensor], None]:
    """A result may err at most twice what plain PyTorch errs in the same dtype, both measured against float64."""

    def check(result: Tensor, plain: Tensor, exact: Tensor) -> None:
        assert exact.dtype == torch.float64
        assert result.dtype == plain.dtype
        error, allowed = ((x.double() - exact).norm().item() for x in (result, plain))
        assert error <= 2 * allowed, f"errs {error:.3g}, plain PyTorch {allowed:.3g}"

    return check


@pytest.fixture
def naive() -> SimpleNamespace:
    """The equations in NumPy: non-linearities by name, 1x1 convolution, plain convolution, batch norm."""
    gates = {
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
        "hard_sigmoid_0.2": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
        "double_sigmoid": lambda x: 2 / (1 + np.exp(-x)),
        "tanh": np.tanh,
        "relu": lambda x: np.maximum(x, 0),
    }
    activations = {
        "relu": lambda x: np.maximum(x, 0),
        "silu": lambda x: x / (1 + np.exp(-x)),
        "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
        "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
        "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    }
    return SimpleNamespace(gates=gates, activations=activations, linear=_linear, conv=_conv, norm=_norm, array=_array)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def _linear(layer: nn.Conv2d, x: np.ndarray) -> np.ndarray:
    """A 1x1 convolution as the matrix product that it is."""
    y = np.einsum("oc,nchw->nohw", _array(layer.weight)[:, :, 0, 0], x)
    return y if layer.bias is None else y + _array(layer.bias)[None, :, None, None]


def _conv(x: np.ndarray, weight: np.ndarray, *, stride: int, padding: int, groups: int = 1) -> np.ndarray:
    """A cross-correlation with zeros around, one output at a time: (N, C, H, W), (O, C / groups, k, l)."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    outputs, per_group, k, l = weight.shape  # noqa: E741
    height, width = (x.shape[2] - k) // stride + 1, (x.shape[3] - l) // stride + 1
    y = np.zeros((x.shape[0], outputs, height, width))
    for o in range(outputs):
        first = o // (outputs // groups) * per_group
        for i in range(height):
            for j in range(width):
                window = x[:, first : first + per_group, i * stride : i * stride + k, j * stride : j * stride + l]
                y[:, o, i, j] = np.sum(window * weight[o], axis=(1, 2, 3))
    return y


def _norm(layer: nn.BatchNorm2d, x: np.ndarray) -> np.ndarray:
    """Batch norm: by the batch's statistics in training, by the running ones in evaluation."""
    mean, var = _array(layer.running_mean), _array(layer.running_var)
    if layer.training:
        mean, var = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3))
    mean, var, weight, bias = (v[None, :, None, None] for v in (mean, var, _array(layer.weight), _array(layer.bias)))
    return (x - mean) / np.sqrt(var + layer.eps) * weight + bias
