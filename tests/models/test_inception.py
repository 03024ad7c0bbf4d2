"""The parts that the Inception networks share, and what all six networks can."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from senet.errors import InputError
from senet.models import create_model
from senet.models.inception import Mixed, conv_norm_act, convolutions

NAMES = ["bn_inception", "inception_v3", "inception_resnet_v2"]
SE = ["sebn_inception", "seinception_v3", "seinception_resnet_v2"]
SIZE = 96
EACH = pytest.mark.parametrize("name", SE)


@pytest.fixture(scope="module")
def built():
    """The SE networks, built once; whoever changes one takes a copy."""
    torch.manual_seed(0)
    return {name: create_model(name, num_classes=5).eval() for name in SE}


@pytest.fixture
def net(name, built, randomise):
    return randomise(copy.deepcopy(built[name]))


def test_the_eps_of_norms_is_tensorflows():
    assert conv_norm_act(2, 3, 1).bn.eps == convolutions(2, (3, 1))[0].bn.eps == 1e-3


def test_only_the_last_convolution_halves():
    first, second, third = convolutions(2, (3, 1), (4, (1, 3)), (5, 3), halve=True)
    assert [layer.conv.stride for layer in (first, second, third)] == [(1, 1), (1, 1), (2, 2)]
    assert [layer.conv.padding for layer in (first, second, third)] == [(0, 0), (0, 1), (0, 0)]
    assert [layer.conv.in_channels for layer in (first, second, third)] == [2, 3, 4]
    assert all(layer.conv.stride == (1, 1) for layer in convolutions(2, (3, 1), (5, 3)))


def test_branches_are_concatenated_in_order_and_fork_at_the_end():
    def times(factor):
        layer = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(layer.weight, factor)
        return layer

    mixed = Mixed([[{"a": times(2.0)}], [{"b_1": times(3.0)}, {"b_2a": times(5.0), "b_2b": times(7.0)}]], se=None)
    assert list(mixed.state_dict()) == ["a.weight", "b_1.weight", "b_2a.weight", "b_2b.weight"]
    assert mixed(torch.ones(1, 1, 1, 1)).flatten().tolist() == [2.0, 15.0, 21.0]
    mixed.se = nn.Threshold(10.0, 0.0)  # stands for a block: changes the concatenation, and so can be seen
    assert mixed(torch.ones(1, 1, 1, 1)).flatten().tolist() == [0.0, 15.0, 21.0]
    assert mixed.concatenation(torch.ones(1, 1, 1, 1)).flatten().tolist() == [2.0, 15.0, 21.0]


@EACH
def test_copy_and_memory_format(name, net):
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        y = net(x)
        last = copy.deepcopy(net).to(memory_format=torch.channels_last)
        features = last.forward_features(x.to(memory_format=torch.channels_last))
        assert features.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(last.forward_head(features), y, rtol=1e-3, atol=1e-3 * y.abs().max().item())


@EACH
def test_autocast(name, net):
    # Child by child, each on the same map: so deep a network with random weights turns any rounding into noise.
    x = torch.randn(2, 3, SIZE, SIZE)
    for key, child in net.named_children():
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            half = child(x)
        with torch.no_grad():
            x = child(x)
        assert (half.float() - x).norm() < 0.05 * x.norm(), key
    assert half.dtype == torch.bfloat16
    assert x.dtype == torch.float32


@EACH
def test_compile_and_export(name, net):
    for key, child in net.named_children():
        if key.startswith("repeat"):  # two units are as good as twenty
            net.set_submodule(key, child[:2])
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        y = net(x)
        torch.compiler.reset()
        torch.testing.assert_close(torch.compile(net, fullgraph=True, backend="eager")(x), y)
        program = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=16)},))
        three = program.module()(x[:1].repeat(3, 1, 1, 1))
        torch.testing.assert_close(three, y[:1].repeat(3, 1), rtol=1e-3, atol=1e-3 * y.abs().max().item())


@EACH
def test_every_parameter_learns(name, net):
    net.train()
    torch.nn.functional.cross_entropy(net(torch.randn(3, 3, SIZE, SIZE)), torch.arange(3)).backward()
    silent = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert silent == []
    assert all(p.grad.abs().sum() > 0 for key, p in net.named_parameters() if p.ndim == 4 and "se." not in key)


@EACH
def test_checkpointing_changes_nothing_but_what_is_kept(name, net):
    nets, results, kept = (net.train(), copy.deepcopy(net)), [], []
    nets[1].set_grad_checkpointing()
    x = torch.randn(2, 3, SIZE, SIZE)
    for each in nets:
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            results.append(each(x))
        kept.append(sum(sizes))
        results[-1].square().mean().backward()
    assert torch.equal(*results)
    assert kept[1] < kept[0] / 5
    for (key, one), other in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), key
    for (key, one), other in zip(nets[0].named_buffers(), nets[1].buffers(), strict=True):
        assert torch.equal(one, other), key


@EACH
def test_head(name, net):
    x = torch.randn(1, 3, SIZE, SIZE)
    with torch.no_grad():
        maps = net.forward_features(x)
        pooled = net.forward_head(maps, pre_logits=True)
        torch.testing.assert_close(pooled, maps.mean((2, 3)))
        net.reset_classifier(0)
        torch.testing.assert_close(net(x), pooled)
        net.reset_classifier(3)
        assert net(x).shape == (1, 3)


@pytest.mark.parametrize("attn", ["eca", "cbam"])
@EACH
def test_any_block_at_every_site(name, attn, built):
    with torch.device("meta"):
        sites = [key for key, module in create_model(name, attn=attn).named_modules() if key.endswith("se") and module]
    own = [key for key, _ in built[name].named_modules() if key.endswith(".se")]
    assert sites == own
    assert own


@pytest.mark.parametrize(("plain", "with_se"), list(zip(NAMES, SE, strict=True)))
def test_the_plain_twin_is_the_network_without_its_blocks(plain, with_se, built):
    with torch.device("meta"):
        twins = create_model(plain, num_classes=5), create_model(with_se, num_classes=5, attn=None)
    expected = [key for key in built[with_se].state_dict() if ".se." not in key]
    assert [list(twin.state_dict()) for twin in twins] == [expected, expected]


@pytest.mark.parametrize("name", SE + NAMES)
def test_what_they_refuse(name):
    if name in SE:
        with pytest.raises(InputError, match=r"stages is \[6\]; accepted: any of \[3, 4, 5\]"):
            create_model(name, stages=(6,))
    if "resnet" not in name:
        with pytest.raises(InputError, match=r"^drop_path_rate is 0\.1, but .*Inception\S* has no shortcuts; leave"):
            create_model(name, drop_path_rate=0.1)
    with pytest.raises(InputError, match="output_stride"):
        create_model(name, output_stride=16)
