"""Options read from a block and from a layer."""

import pytest
import torch
from torch import nn

import senet
from senet.blocks.stages import Doubled, OnePlus
from senet.errors import InputError
from senet.keras import CBAM, SqueezeExcite
from senet.keras.blocks import block_like, create_layer, layer_like

OPTIONS = [
    ("se", {"hidden_channels": 3, "bias": False, "squeeze": "max", "activation": "leaky_relu", "gate": "tanh"}),
    ("se", {"reduction": 2, "squeeze": "none", "gate": "double_sigmoid"}),
    ("ese", {"gate": "hard_sigmoid_0.2"}),
    ("eca", {"kernel_size": 9}),
    ("eca", {"gate": "relu"}),
    ("cbam", {"reduction": 2, "spatial_kernel": 3, "bias": False}),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_there_and_back(name, options):
    block = senet.create_block(name, 16, options)
    layer = layer_like(block, data_format="channels_first", name="gate")
    assert (layer.data_format, layer.name) == ("channels_first", "gate")
    layer.build((None, 16, 4, 4))
    assert repr(block_like(layer)) == repr(block)


@pytest.mark.parametrize("name", ["se", "ese", "eca", "cbam"])
def test_a_start_as_the_identity_is_seen(name):
    block = senet.create_block(name, 16)
    block.start_as_identity()
    layer = layer_like(block)
    assert layer.get_config()["start"] == "identity"
    layer.build((None, 4, 4, 16))
    u = torch.randn(2, 16, 3, 3)
    assert torch.equal(block_like(layer).eval()(u), u)


def replaced(name, part):
    block = senet.create_block(name, 16)
    place, _, last = part[0].rpartition(".")
    setattr(block.get_submodule(place), last, part[1])
    return block


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (lambda: senet.SqueezeExcite(16, squeeze="conv"), r"squeeze is ConvSqueeze\(.* no counterpart in Keras"),
        (lambda: senet.SCSE(16), "SCSE has no counterpart in Keras; accepted: SqueezeExcite, EffectiveSE, ECA, CBAM"),
        (lambda: replaced("se", ("gate", nn.Softsign())), "gate of SqueezeExcite is Softsign"),
        (lambda: replaced("se", ("act", nn.LeakyReLU(0.3))), r"activation is LeakyReLU\(negative_slope=0.3\)"),
        (lambda: replaced("ese", ("gate", OnePlus(nn.Sigmoid()))), "gate of EffectiveSE is OnePlus of 'sigmoid'"),
        (lambda: replaced("eca", ("gate", Doubled(nn.Tanh()))), "gate of ECA is Doubled of 'tanh'"),
        (lambda: replaced("cbam", ("spatial.gate", nn.Tanh())), "this CBAM has two kinds of gates"),
    ],
)
def test_parts_without_a_counterpart_are_refused(block, said):
    with pytest.raises(InputError, match=said):
        layer_like(block())


def test_layers_without_weights_are_refused():
    for layer in (SqueezeExcite(), CBAM()):
        with pytest.raises(InputError, match="has no weights yet"):
            block_like(layer)
    with pytest.raises(InputError, match="Conv2d has no counterpart in senet"):
        block_like(nn.Conv2d(1, 1, 1))


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="no Keras layer is called 'cbma'; did you mean 'cbam'"):
        create_layer("cbma", {})
