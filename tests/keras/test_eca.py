"""ECA beside its equation in NumPy."""

import numpy as np
import pytest

from senet.errors import InputError
from senet.keras import ECA

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(2, 7, 16), (2, 5, 7, 16), (2, 3, 5, 7, 16)], ids=["sequence", "image", "volume"])
def test_convolves_across_channels(shape, array):
    layer = ECA(kernel_size=5)
    layer.build(shape)
    layer.set_weights([RNG.standard_normal((5, 1, 1))])
    kernel = array(layer.weights[0]).ravel()
    u = RNG.standard_normal(shape).astype("float32")
    z = np.pad(u.mean(axis=tuple(range(1, u.ndim - 1))), ((0, 0), (2, 2)))
    logits = sum(kernel[k] * z[:, k : k + 16] for k in range(5))
    s = (1 / (1 + np.exp(-logits))).reshape(2, *(1,) * (u.ndim - 2), 16)
    np.testing.assert_allclose(array(layer(u)), u * s, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("channels", "size"), [(64, 3), (128, 5), (1024, 5), (2048, 7)])
def test_adaptive_size(channels, size):
    layer = ECA()
    layer.build((None, None, None, channels))
    assert layer.conv.kernel_size == (size,)


def test_config_says_all():
    layer = ECA(gamma=1, beta=2, gate="tanh", start="identity", data_format="channels_first")
    copy = ECA.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    copy.build((None, 64, 8, 8))
    assert copy.conv.kernel_size == (9,)


@pytest.mark.parametrize(("options", "said"), [({"kernel_size": 4}, "kernel_size is 4"), ({"gamma": 0}, "gamma is 0")])
def test_refused(options, said):
    with pytest.raises(InputError, match=said):
        ECA(**options)
