from __future__ import annotations

import numpy as np
import pytest
import torch

from senet.blocks import CBAM
from senet.errors import InputError


def naive_cbam(block, u, naive, gate):
    def mlp(z):
        return naive.linear(block.channel.fc2, np.maximum(naive.linear(block.channel.fc1, z), 0))

    u = u * naive.gates[gate](mlp(u.mean(axis=(2, 3), keepdims=True)) + mlp(u.max(axis=(2, 3), keepdims=True)))
    z = np.stack([u.max(axis=1), u.mean(axis=1)], axis=1)
    weight = naive.array(block.spatial.conv.weight)
    logits = naive.norm(block.spatial.bn, naive.conv(z, weight, stride=1, padding=weight.shape[2] // 2))
    return u * naive.gates[gate](logits)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(2, 16, 5, 7), (3, 1, 2, 13), (2, 3, 1, 1)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bias": False},
        {"reduction": 2},
        {"hidden_channels": 5},
        {"rounding": "timm"},
        {"spatial_kernel": 3},
        {"spatial_kernel": 1},
        *({"gate": name} for name in ("hard_sigmoid", "tanh", "relu")),
    ],
    ids=str,
)
def test_equation(size, options, training, naive, randomise):
    block = randomise(CBAM(size[1], **options)).double().train(training)
    u = torch.randn(size, dtype=torch.float64) * 2
    expected = naive_cbam(block, u.numpy(), naive, options.get("gate", "sigmoid"))
    np.testing.assert_allclose(block(u).detach(), expected, rtol=1e-9, atol=1e-11)


def test_norm_learns_slowly_as_in_the_authors_code():
    block = CBAM(8)
    u = torch.randn(4, 8, 5, 7)
    logits = []
    block.spatial.conv.register_forward_hook(lambda module, args, output: logits.append(output))
    block(u)
    torch.testing.assert_close(block.spatial.bn.running_mean, 0.01 * logits[0].mean().reshape(1))
    assert block.spatial.bn.eps == 1e-5


def test_parameters_of_a_site():
    parameters = sum(p.numel() for p in CBAM(256).parameters())
    assert parameters == 2 * 256 * 16 + 16 + 256 + 2 * 7 * 7 + 2  # SE, and 100


@pytest.mark.parametrize(
    ("options", "theirs_options"),
    [({"bias": False}, {}), ({"spatial_kernel": 3}, {"mlp_bias": True, "spatial_kernel_size": 3})],
)
def test_is_timms_with_the_same_weights(options, theirs_options, randomise):
    from timm.layers.cbam import CbamModule

    theirs = randomise(CbamModule(32, **theirs_options)).eval()
    names = {"spatial.conv.conv.": "spatial.conv.", "spatial.conv.bn.": "spatial.bn."}
    state = {}
    for key, value in theirs.state_dict().items():
        old = next((name for name in names if key.startswith(name)), "")
        state[names.get(old, "") + key[len(old) :]] = value
    state["spatial.conv.weight"] = state["spatial.conv.weight"].flip(1)  # timm has the mean before the maximum
    ours = CBAM(32, **options).eval()
    ours.load_state_dict(state, strict=True)
    u = torch.randn(2, 32, 5, 7)
    torch.testing.assert_close(ours(u), theirs(u))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_kernel": 4}, r"spatial_kernel is 4; accepted: an odd number"),
        ({"spatial_kernel": 0}, r"spatial_kernel is 0; accepted: an odd number"),
        ({"reduction": 2, "hidden_channels": 2}, r"both say"),
        ({"gate": "softmax"}, r"gate is 'softmax'"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        CBAM(8, **options)
