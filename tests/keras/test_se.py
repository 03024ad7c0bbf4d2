"""SqueezeExcite and EffectiveSE beside their equations in NumPy."""

import keras
import numpy as np
import pytest

from senet.errors import InputError
from senet.keras import EffectiveSE, SqueezeExcite

RNG = np.random.default_rng(0)


def filled(layer, shape):
    """A layer whose weights hide nothing."""
    layer.build(shape)
    layer.set_weights([RNG.normal(0, 0.5, w.shape) for w in layer.weights])
    return layer


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("shape", [(2, 7, 8), (2, 5, 7, 8), (2, 3, 5, 7, 8)], ids=["sequence", "image", "volume"])
def test_equations_2_to_4(shape, array):
    layer = filled(SqueezeExcite(reduction=2), shape)
    w1, b1, w2, b2 = map(array, layer.weights)
    u = RNG.standard_normal(shape).astype("float32")
    z = u.mean(axis=tuple(range(1, u.ndim - 1)))
    s = sigmoid(np.maximum(z @ w1 + b1, 0) @ w2 + b2)
    expected = u * s.reshape(2, *(1,) * (u.ndim - 2), 8)
    np.testing.assert_allclose(array(layer(u)), expected, rtol=1e-5, atol=1e-6)
    first = SqueezeExcite(reduction=2, data_format="channels_first")
    first.build((2, 8, *shape[1:-1]))
    first.set_weights(layer.get_weights())
    np.testing.assert_allclose(np.moveaxis(array(first(np.moveaxis(u, -1, 1))), 1, -1), expected, rtol=1e-5, atol=1e-6)


def test_effective_se(array):
    layer = filled(EffectiveSE(), (2, 5, 7, 8))
    w, b = map(array, layer.weights)
    u = RNG.standard_normal((2, 5, 7, 8)).astype("float32")
    s = np.clip(u.mean(axis=(1, 2)) @ w + b + 3, 0, 6) / 6
    np.testing.assert_allclose(array(layer(u)), u * s[:, None, None], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(array(layer.gates(keras.ops.convert_to_tensor(u))), s[:, None, None], rtol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        SqueezeExcite(hidden_channels=3, squeeze="none", activation="gelu", gate="tanh", bias=False),
        SqueezeExcite(reduction=4, rounding="timm", start="identity", data_format="channels_first", name="gate"),
        EffectiveSE(gate="hard_sigmoid_0.2", dtype="mixed_bfloat16"),
    ],
    ids=["widths", "start", "effective"],
)
def test_config_says_all(layer):
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    shape = (None, 16, 16, 16)
    layer.build(shape)
    copy.build(shape)
    assert [w.shape for w in copy.weights] == [w.shape for w in layer.weights]


def test_starts_as_in_our_networks(array):
    """He's normal initialisation by fan-out, biases zero (arXiv 1502.01852)."""
    layer = SqueezeExcite(reduction=2)
    layer.build((None, 8, 8, 512))
    w1, b1, w2, b2 = map(array, layer.weights)
    assert w1.std() == pytest.approx((2 / 256) ** 0.5, rel=0.05)
    assert w2.std() == pytest.approx((2 / 512) ** 0.5, rel=0.05)
    assert not b1.any()
    assert not b2.any()


def test_learns(array):
    """From the identity on, under Keras's own training loop."""
    inputs = keras.Input((4, 4, 8))
    outputs = keras.layers.GlobalAveragePooling2D()(SqueezeExcite(reduction=2, start="identity")(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.05), "mse")
    x = RNG.standard_normal((32, 4, 4, 8)).astype("float32")
    losses = model.fit(x, 0.5 * x.mean(axis=(1, 2)), epochs=8, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert all(array(w).any() for w in model.weights)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reduction": 4, "hidden_channels": 4}, "both say how wide"),
        ({"reduction": 0}, "reduction is 0"),
        ({"hidden_channels": 0}, "hidden_channels is 0"),
        ({"rounding": "up"}, "rounding is 'up'"),
    ],
)
def test_widths_are_refused_at_once(options, said):
    with pytest.raises(InputError, match=said):
        SqueezeExcite(**options)
