"""Weights in both directions, bit by bit, and what is refused before anything is written."""

import keras
import numpy as np
import pytest
import torch
from torch import nn

import senet
from senet.errors import InputError
from senet.keras import SqueezeExcite, copy_weights, create_model


def built(layer, channels=16):
    layer.build((None, 4, 4, channels))
    return layer


def test_there_and_back_are_the_same_bits(randomise):
    net = randomise(senet.create_model("cifar_seresnet8"))
    model = create_model("cifar_seresnet8")
    copy_weights(net, model)
    back = senet.create_model("cifar_seresnet8")
    copy_weights(model, back)
    for name, tensor in net.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(back.state_dict()[name], tensor), name


def test_float64_is_kept(float64, array):
    block = senet.SqueezeExcite(16, reduction=2).double()
    layer = built(SqueezeExcite(reduction=2, dtype=float64))
    copy_weights(block, layer)
    assert np.array_equal(array(layer.fc1.kernel), block.fc1.weight.detach()[:, :, 0, 0].T.numpy())
    copy_weights(layer, block.bfloat16())
    assert block.fc1.weight.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        (lambda: senet.SqueezeExcite(16), lambda: senet.SqueezeExcite(16), "was given SqueezeExcite and SqueezeExcite"),
        (lambda: built(SqueezeExcite()), lambda: built(SqueezeExcite()), "one PyTorch module and one Keras layer"),
        (dict, lambda: built(SqueezeExcite()), "was given dict and SqueezeExcite"),
        (lambda: senet.SqueezeExcite(16), lambda: SqueezeExcite(), "squeeze_excite has no 'fc1'"),
        (lambda: senet.SqueezeExcite(16), lambda: built(SqueezeExcite(reduction=2)), r"is of shape \(1, 16, 1, 1\)"),
        (lambda: senet.SqueezeExcite(16), lambda: built(SqueezeExcite(bias=False)), "fc1 of .* has no bias, which fc1"),
        (
            lambda: senet.SqueezeExcite(16, bias=False),
            lambda: built(SqueezeExcite()),
            "has weights that SqueezeExcite has not: squeeze_excite/fc1/bias",
        ),
        (lambda: nn.Sequential(nn.Linear(2, 2)), lambda: built(SqueezeExcite()), "no '0', the counterpart of 0 of Seq"),
        (
            lambda: senet.create_model("cifar_seresnet14"),
            lambda: create_model("cifar_seresnet8"),
            "resnet has no layer 'layer1_1_conv1', the counterpart of layer1.1.conv1 of ResNet",
        ),
    ],
)
def test_refused(source, target, said):
    target = target()
    before = _all_weights(target)
    with pytest.raises(InputError, match=said):
        copy_weights(source(), target)
    assert all(np.array_equal(a, b) for a, b in zip(_all_weights(target), before, strict=True))


def _all_weights(target):
    if isinstance(target, keras.Layer):
        return target.get_weights()
    return [p.detach().clone().numpy() for p in target.parameters()]
