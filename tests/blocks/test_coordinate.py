from __future__ import annotations

import numpy as np
import pytest
import torch

from senet.blocks import CoordinateAttention
from senet.errors import InputError


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(2, 16, 5, 7), (2, 1, 1, 13), (2, 5, 1, 1)], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False, "activation": "silu"},
        {"hidden_channels": 3, "gate": "hard_sigmoid"},
        {"reduction": 1, "gate": "tanh"},
        {"rounding": "timm", "gate": "relu"},
    ],
    ids=str,
)
def test_equation(size, options, training, naive, randomise):
    block = randomise(CoordinateAttention(size[1], **options)).double().train(training)
    u = torch.randn(size, dtype=torch.float64) * 2
    x = u.numpy()
    strips = np.concatenate([x.mean(axis=3), x.mean(axis=2)], axis=2)[..., None]
    activation = naive.activations[options.get("activation", "hard_swish")]
    f = activation(naive.norm(block.bn1, naive.linear(block.conv1, strips)))
    gate = naive.gates[options.get("gate", "sigmoid")]
    expected = np.zeros_like(x)
    for i in range(size[2]):
        for j in range(size[3]):
            row = gate(naive.linear(block.conv_h, f[:, :, i : i + 1]))
            column = gate(naive.linear(block.conv_w, f[:, :, size[2] + j : size[2] + j + 1]))
            expected[:, :, i, j] = x[:, :, i, j] * (row * column)[:, :, 0, 0]
    np.testing.assert_allclose(block(u).detach(), expected, rtol=1e-9, atol=1e-11)


def test_what_the_gate_puts_out_is_what_the_map_is_multiplied_by():
    block = CoordinateAttention(8)
    seen = []
    block.gate.register_forward_hook(lambda module, args, output: seen.append(output))
    u = torch.randn(2, 8, 5, 7)
    assert torch.equal(block(u), u * seen[0])
    assert torch.equal(block.gates(u), seen[0])
    rank_one = seen[0][:, :, :1] * seen[0][:, :, :, :1] / seen[0][:, :, :1, :1]
    torch.testing.assert_close(seen[0], rank_one)


@pytest.mark.parametrize(
    ("channels", "options", "hidden"),
    [(64, {}, 8), (512, {}, 16), (64, {"reduction": 4}, 16), (64, {"hidden_channels": 3}, 3)],
)
def test_hidden_channels_are_eight_at_least(channels, options, hidden):
    assert CoordinateAttention(channels, **options).conv1.out_channels == hidden


@pytest.mark.parametrize("bias", [True, False])
def test_is_timms_with_the_same_weights(bias, randomise):
    from timm.layers.coord_attn import CoordAttn

    theirs = randomise(CoordAttn(64, rd_channels=12, bias=bias)).eval()
    ours = CoordinateAttention(64, hidden_channels=12, bias=bias).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    u = torch.randn(2, 64, 5, 7)
    torch.testing.assert_close(ours(u), theirs(u))


def test_refusals():
    with pytest.raises(InputError, match=r"both say"):
        CoordinateAttention(8, reduction=2, hidden_channels=2)
    with pytest.raises(InputError, match=r"reduction is 0; accepted: above 0 \(the paper's r, 32 by default\)"):
        CoordinateAttention(8, reduction=0)
