from __future__ import annotations

import numpy as np
import pytest
import torch

from senet.blocks import SRM


def built(channels, randomise, **options):
    block = randomise(SRM(channels, **options))
    torch.nn.init.uniform_(block.cfc.weight, -1, 1)
    return block


def naive_srm(block, u, naive, gate="sigmoid"):
    channels, height, width = u.shape[1:]
    mean = u.mean(axis=(2, 3), keepdims=True)
    squares = ((u - mean) ** 2).sum(axis=(2, 3), keepdims=True)
    std = np.sqrt(squares / max(height * width - 1, 1) + 1e-5)
    weight = naive.array(block.cfc.weight).reshape(channels, 2)
    logits = weight[None, :, 0, None, None] * mean + weight[None, :, 1, None, None] * std
    return u * naive.gates[gate](naive.norm(block.bn, logits))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(3, 16, 5, 7), (4, 1, 1, 13), (3, 5, 1, 1)], ids=str)
@pytest.mark.parametrize("gate", ["sigmoid", "hard_sigmoid", "tanh", "relu"])
def test_equation(size, gate, training, naive, randomise):
    block = built(size[1], randomise, gate=gate).double().train(training)
    u = torch.randn(size, dtype=torch.float64) * 2
    np.testing.assert_allclose(block(u).detach(), naive_srm(block, u.numpy(), naive, gate), rtol=1e-9, atol=1e-11)


def test_parameters_are_four_a_channel_and_gates_start_at_a_half():
    block = SRM(64)
    assert sum(p.numel() for p in block.parameters()) == 4 * 64
    u = torch.randn(2, 64, 5, 7)
    assert torch.equal(block(u), u / 2)


def test_takes_the_authors_weights(randomise):
    block = built(8, randomise)
    theirs = {**block.state_dict(), "cfc": block.cfc.weight[:, 0].detach().clone()}
    del theirs["cfc.weight"]
    assert theirs["cfc"].shape == (8, 2)
    ours = SRM(8).eval()
    ours.load_state_dict(theirs, strict=True)
    u = torch.randn(2, 8, 5, 7)
    assert torch.equal(ours(u), block.eval()(u))


def test_a_large_half_precision_map_keeps_its_deviation():
    block = SRM(1)
    u = torch.tensor([300.0, -300.0]).repeat(5000).reshape(1, 1, 100, 100).to(torch.float16)
    mean, std = block.squeeze(u)[0, 0]
    assert mean.item() == pytest.approx(0, abs=1e-9)
    assert std.item() == pytest.approx(300 * (1e4 / (1e4 - 1)) ** 0.5, rel=1e-6)


def test_one_image_in_training_is_refused_by_the_norm():
    with pytest.raises(ValueError, match=r"Expected more than 1 value per channel"):
        SRM(4)(torch.randn(1, 4, 5, 7))
