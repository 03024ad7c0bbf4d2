"""What all layers share, beside the same stages of PyTorch."""

from typing import get_args

import keras
import numpy as np
import pytest
import torch

from senet.blocks import stages as of_torch
from senet.errors import InputError
from senet.keras import stages
from senet.keras.se import EffectiveSE, SqueezeExcite

X = torch.linspace(-9, 9, 73)


def test_names_are_those_of_pytorch():
    assert set(stages.GATES) == set(get_args(of_torch.Gate))
    assert set(stages.ACTIVATIONS) == set(get_args(of_torch.Activation))
    # A convolution in place of the squeeze is there to be compared with, in PyTorch alone.
    assert set(stages.SQUEEZES) == set(get_args(of_torch.Squeeze)) - {"conv"}


@pytest.mark.parametrize("name", stages.GATES)
def test_gates(name, array):
    expected = of_torch.gate_stage(name)(X)
    np.testing.assert_allclose(array(stages.GATES[name](keras.ops.convert_to_tensor(X.numpy()))), expected, atol=1e-6)


@pytest.mark.parametrize("name", stages.ACTIVATIONS)
def test_activations(name, array):
    expected = of_torch.activation_stage(name)(X)
    given = stages.ACTIVATIONS[name](keras.ops.convert_to_tensor(X.numpy()))
    np.testing.assert_allclose(array(given), expected, atol=1e-6)


@pytest.mark.parametrize("gate", [name for name in stages.GATES if name != "relu"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "float64"])
def test_start_as_the_identity(gate, dtype, array, request):
    dtype = request.getfixturevalue(dtype) if dtype == "float64" else dtype
    u = keras.ops.cast(np.random.default_rng(0).standard_normal((2, 5, 4, 8)), dtype.removeprefix("mixed_"))
    layer = SqueezeExcite(gate=gate, start="identity", dtype=dtype)
    assert np.array_equal(array(layer(u)), array(u))
    assert any(array(weight).any() for weight in layer.weights)  # the first layer is as ever, and so it can learn


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_maps_of_whole_numbers_are_computed_with_as_floats(dtype, array):
    u = np.random.default_rng(0).integers(0, 255, (2, 5, 4, 8))
    layer = SqueezeExcite(reduction=4)
    expected = array(layer(u.astype("float32")))
    given = layer(u.astype(dtype))
    assert keras.backend.standardize_dtype(given.dtype) == "float32"
    np.testing.assert_array_equal(array(given), expected)
    assert expected.any()


def test_dtypes(array):
    """Squeeze, excitation and gate are in float32 under a mixed policy; a large map neither overflows nor stalls."""
    u = np.full((1, 300, 300, 16), 30, "float16")
    u[:, 0, 0] = 0
    mixed, whole = EffectiveSE(dtype="mixed_float16"), EffectiveSE()
    y, expected = mixed(u), whole(u.astype("float32"))
    assert {weight.dtype for weight in mixed.weights} == {"float32"}
    assert keras.backend.standardize_dtype(y.dtype) == "float16"
    assert keras.backend.standardize_dtype(mixed.gates(keras.ops.convert_to_tensor(u)).dtype) == "float32"
    whole.set_weights(mixed.get_weights())
    np.testing.assert_allclose(array(y), array(whole(u.astype("float32"))), rtol=1e-3)
    assert keras.backend.standardize_dtype(expected.dtype) == "float32"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SqueezeExcite(gate="sigmoyd"), "gate is 'sigmoyd'; accepted: 'sigmoid'"),
        (lambda: SqueezeExcite(squeeze="mean"), "squeeze is 'mean'; accepted: 'avg'"),
        (lambda: SqueezeExcite(activation="elu"), "activation is 'elu'; accepted: 'relu'"),
        (lambda: EffectiveSE(start="zero"), "start is 'zero'; accepted: 'paper', 'identity'"),
        (lambda: EffectiveSE(start="identity", gate="relu"), "gate 'relu' has no slope at 0"),
        (lambda: EffectiveSE(data_format="NCHW"), "data_format is 'NCHW'; accepted: 'channels_last'"),
        (lambda: EffectiveSE()(np.zeros((2, 8), "float32")), "rank 2; accepted ranks: 3, 4, 5"),
        (lambda: EffectiveSE()(keras.Input((4, 4, None))), "channels are not known (channels_last)"),
    ],
)
def test_refused(make, said):
    with pytest.raises(InputError) as caught:
        make()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
