from __future__ import annotations

import pytest
import torch
from torch import nn

from senet.blocks import BLOCKS
from senet.errors import InputError
from senet.surgery.attaching.block import new_block


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3))


def block_at(model: nn.Sequential, index: int, name: str = "se", start="identity", **options) -> nn.Module:
    return new_block(name, 16, start, options, model, model[index])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("index", range(4))
def test_it_has_its_neighbours_dtype(dtype, index):
    assert {p.dtype for p in block_at(network().to(dtype), index).parameters()} == {dtype}


def test_it_lies_where_its_neighbour_lies():
    model = network()
    model[3].to("meta")
    model[1].to(torch.float64)
    assert {p.dtype for p in block_at(model, 2).parameters()} == {torch.float64}  # the last weights before it
    assert {p.device.type for p in block_at(model, 3, start="paper").parameters()} == {"meta"}


def test_frozen_norms_have_a_dtype_too():
    model = network()
    model[1] = nn.BatchNorm2d(16, affine=False).to(torch.float64)
    assert {p.dtype for p in block_at(model, 1).parameters()} == {torch.float64}


def test_it_has_its_neighbours_mode():
    model = network()
    model[1].eval()
    assert not any(m.training for m in block_at(model, 1).modules())
    assert all(m.training for m in block_at(model, 2).modules())


@pytest.mark.parametrize("form", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("index", range(4))
def test_it_has_its_neighbours_memory_format(form, index):
    block = block_at(network().to(memory_format=form), index)
    like = torch.empty(1, 16, 1, 1).to(memory_format=form)
    assert block.fc1.weight.stride() == like.stride()


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_that_start_as_the_identity_are_it(name):
    model, u = network(), torch.randn(2, 16, 5, 7)
    try:
        block = block_at(model, 0, name)
    except InputError as error:
        assert str(error).endswith("; attach it with start='paper'")  # noqa: PT017
        block_at(model, 0, name, start="paper")
    else:
        assert torch.equal(block.eval()(u), u)


def test_se_starts_as_the_authors():
    torch.manual_seed(0)
    model = network()
    block = new_block("se", 512, "paper", {"reduction": 4}, model, model)
    assert not block.fc1.bias.any()
    assert not block.fc2.bias.any()
    assert block.fc1.weight.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.02)
    assert block.fc2.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)


def test_what_a_block_says_is_passed_on():
    with pytest.raises(InputError, match="no block is called 'sse'; did you mean "):
        block_at(network(), 0, "sse")
    with pytest.raises(InputError, match="block 'se' has no option 'ratio'"):
        block_at(network(), 0, ratio=4)
    with pytest.raises(InputError, match=r"cannot start as the identity.*; attach it with start='paper'"):
        block_at(network(), 0, gate="relu")
