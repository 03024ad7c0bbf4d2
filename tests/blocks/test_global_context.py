from __future__ import annotations

import numpy as np
import pytest
import torch

from senet.blocks import GlobalContext
from senet.errors import InputError


def built(channels, randomise, **options):
    block = randomise(GlobalContext(channels, **options))
    context = block.fusion.context
    for layer in (context.fc2, context.norm):
        torch.nn.init.uniform_(layer.weight, -1, 1)
    torch.nn.init.uniform_(context.norm.bias, -1, 1)
    return block


@pytest.mark.parametrize("size", [(2, 16, 5, 7), (1, 1, 1, 13), (2, 5, 1, 1)], ids=str)
@pytest.mark.parametrize("fusion", ["add", "scale"])
@pytest.mark.parametrize("pool", ["attention", "avg"])
@pytest.mark.parametrize("options", [{"hidden_channels": 4}, {"reduction": 2}, {"rounding": "timm"}], ids=str)
def test_equation(size, fusion, pool, options, naive, randomise):
    block = built(size[1], randomise, fusion=fusion, pool=pool, **options).double()
    context = block.fusion.context
    u = torch.randn(size, dtype=torch.float64) * 2
    x = u.numpy()
    weights = np.full(size[2:], 1 / (size[2] * size[3]))
    if pool == "attention":
        e = np.exp(naive.linear(context.conv_mask, x))
        weights = e / e.sum(axis=(2, 3), keepdims=True)
    hidden = naive.linear(context.fc1, (x * weights).sum(axis=(2, 3), keepdims=True))
    variance = hidden.var(axis=1, keepdims=True)
    normal = (hidden - hidden.mean(axis=1, keepdims=True)) / np.sqrt(variance + 1e-5)
    normal = normal * naive.array(context.norm.weight) + naive.array(context.norm.bias)
    term = naive.linear(context.fc2, np.maximum(normal, 0))
    expected = x + term if fusion == "add" else x * naive.gates["sigmoid"](term)
    np.testing.assert_allclose(block(u).detach(), expected, rtol=1e-9, atol=1e-11)


def test_a_new_block_is_the_identity_and_one_that_scales_is_not():
    u = torch.randn(2, 32, 5, 7)
    assert torch.equal(GlobalContext(32)(u), u)
    assert not torch.equal(GlobalContext(32, fusion="scale")(u), u)


@pytest.mark.parametrize("fusion", ["add", "scale"])
@pytest.mark.parametrize("pool", ["attention", "avg"])
def test_is_timms_with_the_same_weights(fusion, pool, randomise):
    from timm.layers.global_context import GlobalContext as Theirs

    theirs = randomise(
        Theirs(32, use_attn=pool == "attention", fuse_add=fusion == "add", fuse_scale=fusion == "scale", rd_channels=4)
    )
    mlp = theirs.mlp_add if fusion == "add" else theirs.mlp_scale
    torch.nn.init.uniform_(mlp.fc2.weight, -1, 1)
    torch.nn.init.uniform_(mlp.norm.weight, 0.5, 1.5)
    ours = GlobalContext(32, hidden_channels=4, fusion=fusion, pool=pool)
    context = ours.fusion.context
    if pool == "attention":
        context.conv_mask.load_state_dict(theirs.conv_attn.state_dict())
    context.fc1.load_state_dict(mlp.fc1.state_dict())
    context.fc2.load_state_dict(mlp.fc2.state_dict())
    with torch.no_grad():
        context.norm.weight.copy_(mlp.norm.weight.reshape(4, 1, 1))
        context.norm.bias.copy_(mlp.norm.bias.reshape(4, 1, 1))
    context.norm.eps = mlp.norm.eps  # timm's 1e-6; PyTorch's and the authors' is 1e-5
    u = torch.randn(2, 32, 5, 7)
    torch.testing.assert_close(ours(u), theirs(u))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "mul"}, r"^fusion is 'mul'; accepted: 'add', 'scale'$"),
        ({"pool": "max"}, r"^pool is 'max'; accepted: 'attention', 'avg'$"),
        ({"reduction": 2, "hidden_channels": 2}, r"both say"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(InputError, match=message):
        GlobalContext(8, **options)
