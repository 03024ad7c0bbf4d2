"""The tutorials' function, as they call it."""

import keras
import numpy as np
import pytest

from senet.errors import InputError
from senet.keras import SqueezeExcite, squeeze_and_excitation_block


def as_tutorials_write_it(x, out_dim, reduction_ratio):
    z = keras.layers.GlobalAveragePooling2D()(x)
    z = keras.layers.Dense(out_dim // reduction_ratio, activation="relu")(z)
    z = keras.layers.Dense(out_dim, activation="sigmoid")(z)
    return keras.layers.Multiply()([x, keras.layers.Reshape((1, 1, out_dim))(z)])


def test_computes_what_the_tutorial_does(array):
    inputs = keras.Input((5, 5, 32))
    ours = keras.Model(inputs, squeeze_and_excitation_block(inputs, 32, 8))
    theirs = keras.Model(inputs, as_tutorials_write_it(inputs, 32, 8))
    assert isinstance(ours.layers[-1], SqueezeExcite)
    theirs.set_weights(ours.get_weights())
    x = np.random.default_rng(0).standard_normal((2, 5, 5, 32)).astype("float32")
    np.testing.assert_allclose(array(ours(x)), array(theirs(x)), rtol=1e-6, atol=1e-6)


def test_channels_that_the_map_has_not_are_refused():
    with pytest.raises(InputError, match=r"out_dim is 16, but the map of shape \(None, 5, 5, 32\) has 32 channels"):
        squeeze_and_excitation_block(keras.Input((5, 5, 32)), 16, 8)
