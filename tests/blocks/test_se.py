from __future__ import annotations

import numpy as np
import pytest
import torch

from senet.blocks import EffectiveSE, SqueezeExcite, create_block
from senet.errors import InputError

SIZES = [(2, 16, 5, 7), (1, 3, 1, 1), (3, 1, 2, 13)]
GATES = ["sigmoid", "hard_sigmoid", "hard_sigmoid_0.2", "double_sigmoid", "tanh", "relu"]


def naive_se(block, u, naive, *, squeeze="avg", activation="relu", gate="sigmoid"):
    pooled = {"avg": lambda: u.mean(axis=(2, 3), keepdims=True), "max": lambda: u.max(axis=(2, 3), keepdims=True)}
    z = pooled[squeeze]() if squeeze in pooled else u
    if squeeze == "conv":
        z = naive.conv(u, naive.array(block.squeeze.conv.weight), stride=1, padding=1)
    hidden = naive.activations[activation](naive.linear(block.fc1, z))
    return u * naive.gates[gate](naive.linear(block.fc2, hidden))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"reduction": 2},
        {"hidden_channels": 5},
        {"rounding": "timm"},
        {"rounding": "torchvision", "reduction": 4},
        *({"squeeze": name} for name in ("avg", "max", "none", "conv")),
        *({"activation": name} for name in ("relu", "silu", "gelu", "hard_swish", "leaky_relu")),
        *({"gate": name} for name in GATES),
        {"squeeze": "max", "activation": "gelu", "gate": "tanh", "bias": False, "reduction": 3},
    ],
    ids=str,
)
def test_equation(size, options, naive, randomise):
    block = randomise(SqueezeExcite(size[1], **options)).double()
    u = torch.randn(size, dtype=torch.float64) * 3
    named = {key: options[key] for key in ("squeeze", "activation", "gate") if key in options}
    np.testing.assert_allclose(block(u).detach(), naive_se(block, u.numpy(), naive, **named), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "hidden", "parameters"),
    [
        ({}, 4, 2 * 64 * 4 + 4 + 64),
        ({"bias": False}, 4, 2 * 64 * 4),
        ({"reduction": 8}, 8, 2 * 64 * 8 + 8 + 64),
        ({"rounding": "timm"}, 8, 2 * 64 * 8 + 8 + 64),
        ({"hidden_channels": 3}, 3, 2 * 64 * 3 + 3 + 64),
    ],
)
def test_widths(options, hidden, parameters):
    block = SqueezeExcite(64, **options)
    assert block.fc1.out_channels == block.fc2.in_channels == hidden
    assert sum(p.numel() for p in block.parameters()) == parameters


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("gate", GATES)
def test_effective_equation(size, gate, naive, randomise):
    block = randomise(EffectiveSE(size[1], gate=gate)).double()
    u = torch.randn(size, dtype=torch.float64) * 3
    z = u.numpy().mean(axis=(2, 3), keepdims=True)
    expected = u.numpy() * naive.gates[gate](naive.linear(block.fc, z))
    np.testing.assert_allclose(block(u).detach(), expected, rtol=1e-10, atol=1e-12)


def test_effective_gate_is_hard_by_default(naive):
    block = EffectiveSE(4).double()
    torch.nn.init.constant_(block.fc.bias, 9.0)
    u = torch.randn(1, 4, 3, 3, dtype=torch.float64) / 10
    assert torch.equal(block(u), u)  # a sigmoid would not reach 1


@pytest.mark.parametrize("channels", [32, 64, 200])
def test_is_timms_with_the_same_weights(channels, randomise):
    from timm.layers import SEModule

    theirs = randomise(SEModule(channels))
    ours = SqueezeExcite(channels, rounding="timm")
    ours.load_state_dict(theirs.state_dict(), strict=True)
    u = torch.randn(2, channels, 5, 7)
    torch.testing.assert_close(ours(u), theirs(u))


def test_is_torchvisions_with_the_same_weights(randomise):
    from torchvision.ops import SqueezeExcitation

    mobilenet = {"activation": torch.nn.ReLU, "scale_activation": torch.nn.Hardsigmoid}
    for options, theirs in (
        ({}, SqueezeExcitation(64, 16)),
        ({"gate": "hard_sigmoid"}, SqueezeExcitation(64, 16, **mobilenet)),
    ):
        ours = SqueezeExcite(64, hidden_channels=16, **options)
        ours.load_state_dict(randomise(theirs).state_dict(), strict=True)
        u = torch.randn(2, 64, 5, 7) * 3
        torch.testing.assert_close(ours(u), theirs(u))


def test_effective_is_timms_with_the_same_weights(randomise):
    from timm.layers import EffectiveSEModule

    theirs = randomise(EffectiveSEModule(24))
    ours = EffectiveSE(24)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    u = torch.randn(2, 24, 5, 7) * 3
    torch.testing.assert_close(ours(u), theirs(u))


@pytest.mark.parametrize(
    "options",
    [{"reduction": 2, "hidden_channels": 2}, {"hidden_channels": 0}, {"reduction": 0}, {"gate": "softmax"}],
)
def test_refusals(options):
    with pytest.raises(InputError):
        SqueezeExcite(8, **options)


def test_a_convolution_in_place_of_the_squeeze_knows_the_neighbours_alone():
    """What changes far away changes a gate that saw the average, and none that saw a convolution; at 9 C^2 weights."""
    u = torch.randn(1, 16, 9, 9)
    far = u.clone()
    far[:, :, 6:] += 1
    for squeeze, same in (("conv", True), ("avg", False)):
        block = SqueezeExcite(16, squeeze=squeeze)
        one, other = (block.gates(each)[..., :1, :1] for each in (u, far))
        assert torch.equal(one, other) == same
    more = sum(p.numel() for p in SqueezeExcite(16, squeeze="conv").parameters())
    assert more - sum(p.numel() for p in SqueezeExcite(16).parameters()) == 9 * 16**2
    with pytest.raises(InputError, match="rank 3"):
        SqueezeExcite(16, squeeze="conv")(torch.randn(1, 16, 9))


def test_scale_without_layers_is_gather_excite_without_parameters():
    """Squeeze, sigmoid, scale: nothing to learn, and a gate that knows its own channel alone."""
    block, u = create_block("ge", 4), torch.randn(2, 4, 5, 5)
    assert list(block.parameters()) == []
    torch.testing.assert_close(block(u), u * u.mean((2, 3), keepdim=True).sigmoid())
    other = u.clone()
    other[:, 1:] += 1
    assert torch.equal(block.gates(other)[:, 0], block.gates(u)[:, 0])
