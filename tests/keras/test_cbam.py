"""CBAM: its norm in training, its options; what it computes is compared with PyTorch's in test_convert.py."""

import numpy as np
import pytest

from senet.errors import InputError
from senet.keras import CBAM

RNG = np.random.default_rng(0)


def test_norm_learns_slowly_as_in_the_authors_code(array):
    layer = CBAM(reduction=2)
    u = RNG.standard_normal((2, 6, 6, 8)).astype("float32")
    layer(u, training=True)
    z = layer.spatial.squeezed(layer.channel(u))
    logits = array(layer.spatial.conv(z))
    np.testing.assert_allclose(array(layer.spatial.bn.moving_mean), 0.01 * logits.mean(), rtol=1e-4)
    np.testing.assert_allclose(array(layer.spatial.bn.moving_variance), 0.99 + 0.01 * logits.var(), rtol=1e-4)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_start_as_the_identity(data_format, array):
    layer = CBAM(reduction=2, start="identity", data_format=data_format)
    u = RNG.standard_normal((2, 8, 6, 8)).astype("float32")
    assert np.array_equal(array(layer(u)), u)
    assert np.array_equal(array(layer(u, training=True)), u)


def test_config_says_all():
    layer = CBAM(
        hidden_channels=3, spatial_kernel=3, bias=False, gate="tanh", start="identity", data_format="channels_first"
    )
    copy = CBAM.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    copy.build((None, 8, 6, 6))
    assert [tuple(w.shape) for w in copy.channel.weights] == [(8, 3), (3, 8)]
    assert copy.spatial.conv.kernel_size == (3, 3)


def test_refused():
    with pytest.raises(InputError, match="spatial_kernel is 4"):
        CBAM(spatial_kernel=4)
    with pytest.raises(InputError, match="rank 3; accepted ranks: 4"):
        CBAM()(np.zeros((2, 7, 8), "float32"))
