"""The same outputs as PyTorch's, both ways and in both data formats, and files that come back."""

import keras
import numpy as np
import pytest
import torch

import senet
from senet.errors import InputError
from senet.keras import create_model, from_torch, to_torch

FORMATS = pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
BLOCKS = [
    ("se", {}),
    ("se", {"squeeze": "none", "activation": "gelu", "gate": "tanh", "bias": False}),
    ("se", {"squeeze": "max", "activation": "hard_swish", "gate": "hard_sigmoid_0.2"}),
    ("ese", {}),
    ("eca", {}),
    ("cbam", {}),
]


@FORMATS
@pytest.mark.parametrize(("name", "options"), BLOCKS)
def test_blocks(name, options, data_format, randomise, agrees):
    block = randomise(senet.create_block(name, 32, options)).eval()
    layer = from_torch(block, data_format=data_format, name="gate")
    assert layer.name == "gate"
    u = torch.randn(2, 32, 5, 7)
    agrees(layer, block, u, data_format)
    assert torch.equal(to_torch(layer)(u), block(u))


@pytest.mark.parametrize("name", ["se", "ese", "eca"])
@FORMATS
def test_sequences(name, data_format, randomise, agrees):
    block = randomise(senet.create_block(name, 32))
    agrees(from_torch(block, data_format=data_format), block, torch.randn(2, 32, 9), data_format)


def test_files(tmp_path, randomise, array):
    """A .keras file has the options and the weights of all layers, and needs no custom objects."""
    inputs = x = keras.Input((4, 6, 16))
    for name in ("se", "ese", "eca", "cbam"):
        x = from_torch(randomise(senet.create_block(name, 16)), name=name)(x)
    model = keras.Model(inputs, x)
    model.save(tmp_path / "all.keras")
    loaded = keras.models.load_model(tmp_path / "all.keras")
    u = np.random.default_rng(0).standard_normal((2, 4, 6, 16)).astype("float32")
    assert np.array_equal(array(loaded(u)), array(model(u)))
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]


def test_fresh_networks_are_seeded_by_pytorch(array):
    first, second = (_weights(seed, array) for seed in (0, 0))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, _weights(1, array), strict=True))


def _weights(seed, array):
    torch.manual_seed(seed)
    return [array(w) for w in create_model("cifar_seresnet8", in_chans=1).weights]


def test_options_of_a_layer_are_not_of_a_network():
    with pytest.raises(InputError, match="name: accepted for a block, but ResNet is a network"):
        from_torch(senet.create_model("cifar_seresnet8"), name="mine")
