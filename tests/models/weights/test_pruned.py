from __future__ import annotations

import pytest
import torch
from torch import nn

from senet.blocks import create_block
from senet.errors import InputError
from senet.models import create_model
from senet.models.weights.files import load_into, write_tensors
from senet.models.weights.pruned import PRUNED, ChannelScale, as_pruned

NAME = "cifar_seresnet8"
INFO = {"model": NAME, "options": {}, PRUNED: ["layer1.0.se", "layer3.0.se"]}


def pruned_network(randomise):
    """One block is gone, one is a scale, and one is there."""
    model = randomise(create_model(NAME)).eval()
    model.layer1[0].se = nn.Identity()
    model.layer3[0].se = ChannelScale(torch.rand(64))
    return model


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 8])
def test_a_scale_is_a_product(dtype, channels):
    scale, u = torch.rand(channels), torch.randn(2, 8, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
    out = ChannelScale(scale)(u)
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(out, u * scale.to(dtype).view(1, -1, 1, 1))


def test_create_model_loads_it(tmp_path, randomise):
    model, x = pruned_network(randomise), torch.randn(2, 3, 32, 32)
    write_tensors(tmp_path / "pruned.safetensors", model.state_dict(), INFO)
    loaded = create_model(NAME, pretrained=tmp_path / "pruned.safetensors").eval()
    assert torch.equal(loaded(x), model(x))
    assert type(loaded.layer1[0].se) is nn.Identity
    assert isinstance(loaded.layer3[0].se, ChannelScale)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    finer = create_model(NAME, pretrained=tmp_path / "pruned.safetensors", num_classes=3)  # another classifier
    assert finer(x).shape == (2, 3)


def test_blocks_come_back_if_the_weights_do_not_fit(tmp_path, randomise):
    model = pruned_network(randomise)
    write_tensors(tmp_path / "cut.safetensors", {"conv1.weight": model.conv1.weight}, INFO)
    net = create_model(NAME)
    before = {name: type(module) for name, module in net.named_modules()}
    with pytest.raises(InputError, match="missing"), as_pruned(net, INFO, {}, what="it"):
        load_into(net, {"conv1.weight": model.conv1.weight}, what="it")
    assert before == {name: type(module) for name, module in net.named_modules()}
    with pytest.raises(InputError, match=r"cut\.safetensors"):
        create_model(NAME, pretrained=tmp_path / "cut.safetensors")


@pytest.mark.parametrize(
    "said", ["layer1.0.se", ["layer9.0.se"], ["conv1"], [""], [3], [["conv1"]], {"layer1.0.se": 1}]
)
def test_what_is_no_list_of_blocks(said):
    with (
        pytest.raises(InputError, match="it has weights without the blocks"),
        as_pruned(create_model(NAME), {PRUNED: said}, {}, what="it"),
    ):
        pass


def test_a_block_named_by_a_number():
    net = nn.Sequential(nn.Conv2d(3, 16, 3), create_block("se", 16))
    with pytest.raises(InputError, match=r"without the blocks \[1\]"), as_pruned(net, {PRUNED: [1]}, {}, what="it"):
        pass


@pytest.mark.parametrize("shape", [(7,), (16, 1), ()])
@pytest.mark.parametrize("block", ["se", "srm"])
def test_a_scale_of_another_width(block, shape):
    net = nn.Sequential(nn.Conv2d(3, 16, 3), create_block(block, 16))
    info, tensors = {PRUNED: ["1"]}, {"1.scale": torch.ones(shape)}
    with (
        pytest.raises(InputError, match=r"it: 1.scale is \(.*; accepted: \(16,\) or \(1,\)"),
        as_pruned(net, info, tensors, what="it"),
    ):
        pass


@pytest.mark.parametrize("block", ["se", "eca", "simam"])
def test_a_scale_of_the_same_width(block):
    net = nn.Sequential(nn.Conv2d(3, 16, 3), create_block(block, 16))
    with as_pruned(net, {PRUNED: ["1"]}, {"1.scale": torch.ones(16)}, what="it"):
        assert isinstance(net[1], ChannelScale)
