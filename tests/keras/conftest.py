"""Keras on its PyTorch backend, with the same settings for every test.

Keras chooses its backend once, when it is imported first: before that, here. ``KERAS_BACKEND=jax pytest tests/keras``
tests another one, where it is installed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from torch import Tensor

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras


@pytest.fixture(autouse=True)
def _keras_as_it_comes() -> Iterator[None]:
    """Names, seeds and settings begin anew, whatever a test, or the machine's keras.json, has set."""
    keras.utils.clear_session(free_memory=False)
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")


@pytest.fixture
def float64() -> str:
    """Gives the name of the dtype, where the backend has it."""
    if keras.config.backend() == "jax":
        pytest.skip("JAX has float64 only where it is switched on")
    return "float64"


@pytest.fixture
def channels_first() -> str:
    """Gives the name of the data format, where the backend convolves it."""
    if keras.config.backend() == "tensorflow":
        pytest.skip("TensorFlow convolves channels-first images on a GPU only")
    return "channels_first"


@pytest.fixture
def array() -> Callable[[object], np.ndarray]:
    """Gives a result of any backend as NumPy has it."""
    return lambda x: np.asarray(keras.ops.convert_to_numpy(x))


@pytest.fixture
def laid_out() -> Callable[[Tensor, str], np.ndarray]:
    """Gives a map (N, C, ...) of PyTorch in a data format."""

    def give(u: Tensor, data_format: str) -> np.ndarray:
        return u.numpy() if data_format == "channels_first" else u.movedim(1, -1).numpy()

    return give


@pytest.fixture
def agrees(array, laid_out) -> Callable[..., None]:
    """A Keras layer, or model, gives what a module of PyTorch does, to float32 accuracy, in both data formats."""

    def check(layer: object, module: Callable[[Tensor], Tensor], u: Tensor, data_format: str) -> None:
        expected = laid_out(module(u).detach(), data_format)
        np.testing.assert_allclose(array(layer(laid_out(u, data_format))), expected, rtol=2e-6, atol=2e-6)

    return check
