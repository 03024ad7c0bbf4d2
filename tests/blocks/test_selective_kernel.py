from __future__ import annotations

import numpy as np
import pytest
import torch

from senet.blocks import SelectiveKernel
from senet.errors import InputError


def dilated(weight, dilation):
    """The same kernel with zeros between its weights."""
    size = 2 * dilation + 1
    wide = np.zeros((*weight.shape[:2], size, size))
    wide[:, :, ::dilation, ::dilation] = weight
    return wide


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(3, 4, 5, 7), (3, 1, 1, 6), (4, 6, 1, 1)], ids=str)
@pytest.mark.parametrize(
    "options", [{}, {"branches": 3, "groups": 1}, {"hidden_channels": 3}, {"reduction": 1}], ids=str
)
def test_equation(size, options, training, naive, randomise):
    block = randomise(SelectiveKernel(size[1], **options)).double().train(training)
    u = torch.randn(size, dtype=torch.float64)
    maps = []
    for dilation, (conv, norm, _) in enumerate(block.branches, start=1):
        weight = dilated(naive.array(conv.weight), dilation)
        y = naive.conv(u.numpy(), weight, stride=1, padding=dilation, groups=conv.groups)
        maps.append(np.maximum(naive.norm(norm, y), 0))
    z = sum(maps).mean(axis=(2, 3), keepdims=True)
    gate = block.select
    logits = naive.linear(gate.fc2, np.maximum(naive.norm(gate.bn, naive.linear(gate.fc1, z)), 0))
    e = np.exp(logits.reshape(size[0], len(maps), size[1], 1, 1))
    shares = e / e.sum(axis=1, keepdims=True)
    expected = sum(shares[:, m] * branch for m, branch in enumerate(maps))
    np.testing.assert_allclose(block(u).detach(), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("channels", "groups"), [(256, 32), (72, 8), (5, 1), (16, 16)])
def test_groups_divide_the_channels(channels, groups):
    assert SelectiveKernel(channels).branches[1][0].groups == groups


def test_hidden_channels_are_32_at_least():
    assert SelectiveKernel(64).select.fc1.out_channels == 32
    assert SelectiveKernel(1024).select.fc1.out_channels == 64
    assert SelectiveKernel(64, hidden_channels=3).select.fc1.out_channels == 3


def test_gates_of_a_channel_sum_to_one():
    block = SelectiveKernel(8)
    s = block.select.gates(torch.randn(3, 16, 5, 7))
    torch.testing.assert_close(s[:, :8] + s[:, 8:], torch.ones(3, 8, 1, 1))


def test_is_timms_with_the_same_weights(randomise):
    from timm.layers.selective_kernel import SelectiveKernel as Theirs

    theirs = randomise(Theirs(64, groups=32, rd_channels=32, split_input=False)).eval()
    ours = SelectiveKernel(64).eval()
    names = {"paths": "branches", "conv": "0", "bn": "1", "attn": "select", "fc_reduce": "fc1", "fc_select": "fc2"}
    state = {}
    for key, value in theirs.state_dict().items():
        inside = key.startswith("attn.")
        state[".".join(part if inside and part == "bn" else names.get(part, part) for part in key.split("."))] = value
    ours.load_state_dict(state, strict=True)
    u = torch.randn(2, 64, 5, 7)
    torch.testing.assert_close(ours(u), theirs(u))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 3}, r"^groups is 3; accepted: a divisor of the 8 channels$"),
        ({"groups": 0}, r"^groups is 0"),
        ({"branches": 1}, r"^branches is 1; accepted: 2 or more"),
        ({"reduction": 2, "hidden_channels": 2}, r"both say"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        SelectiveKernel(8, **options)
