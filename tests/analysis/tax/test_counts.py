from __future__ import annotations

import pytest
import timm
import torch
from timm.layers import SEModule
from torch import nn

from senet.analysis.kept import kept
from senet.analysis.tax.arms import Setting, batch_for, loss_of, prepare
from senet.analysis.tax.counts import count, extra, sites_of
from senet.analysis.traffic import traffic
from senet.errors import InputError
from senet.surgery.gating.strip import stripped


class Unit(nn.Module):
    """A residual unit with its gate as a part, or written down in its forward."""

    def __init__(self, *, inline):
        super().__init__()
        self.conv, self.bn, self.se = nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), SEModule(16)
        self.inline = inline

    def forward(self, x):
        u = self.bn(self.conv(x))
        if self.inline:
            s = u.mean((2, 3), keepdim=True)
            return torch.relu(u * torch.sigmoid(self.se.fc2(torch.relu(self.se.fc1(s)))) + x)
        return torch.relu(self.se(u) + x)


@pytest.fixture(params=[False, True], ids=["part", "inline"])
def network(request):
    units = [Unit(inline=request.param) for _ in range(2)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), units[0], nn.AvgPool2d(2), units[1], nn.Flatten(), nn.LazyLinear(5))


SETTING = Setting(batch=4, size=16)


@pytest.fixture
def counted(network):
    network(torch.zeros(1, 3, 16, 16))  # the last layer's size
    twin, gates, _ = stripped(network, example=(torch.zeros(2, 3, 16, 16),))
    sites = sites_of(network, gates, SETTING)
    arms = {
        (way, gated): prepare(network if gated else twin, way, SETTING, gated=gated)
        for way in ("eager",)
        for gated in (True, False)
    }
    return network, sites, {key: count(arm, sites, SETTING) for key, arm in arms.items()}


def test_maps_are_known_at_the_size_asked_for(counted):
    _, sites, _ = counted
    assert [site.shape for site in sites] == [(16, 8, 8), (16, 4, 4)]
    assert [site.elements for site in sites] == [4 * 16 * 64, 4 * 16 * 16]
    assert [site.path.split(".")[0] for site in sites] == ["1", "3"]


def test_what_a_gate_adds_to_a_residual_tail(counted):
    _, sites, counts = counted
    more = extra(counts["eager", True], counts["eager", False], sites)
    assert [(one.forward, one.backward) for one in more] == [(3, 10), (3, 10)]
    m = 4 * sites[0].elements
    assert 13 * m < more[0].moved < 14 * m
    assert m < more[0].kept < 1.1 * m
    assert more[0].launches > 13
    assert extra(counts["eager", False], counts["eager", False], sites)[0].moved == 0


def test_counting_without_memory_counts_what_runs(counted):
    network, _, counts = counted
    x, labels = batch_for(network, SETTING)
    total = counts["eager", True].total
    real = traffic(lambda: loss_of(network, x, labels, SETTING).backward(), network).total()
    assert (total.launches, total.read, total.written) == (real.launches, real.read, real.written)
    assert (
        counts["eager", True].kept.bytes == kept(lambda: loss_of(network, x, labels, SETTING), network, x, labels).bytes
    )


def test_autocast_halves_the_maps():
    network = timm.create_model("seresnet18")
    twin, gates, _ = stripped(network)
    kept_bytes, elements = {}, 0
    for dtype in ("float32", "bfloat16"):
        setting = Setting(batch=4, size=64, dtype=dtype)
        sites = sites_of(network, gates, setting)
        counts = [count(prepare(n, "eager", setting, gated=n is network), sites, setting) for n in (network, twin)]
        more = extra(*counts, sites)
        kept_bytes[dtype] = sum(one.kept for one in more)
        elements = sum(site.elements for site in sites)
    assert kept_bytes["float32"] > 4 * elements > kept_bytes["bfloat16"] > 2 * elements


def test_inference_has_no_backward(network):
    network(torch.zeros(1, 3, 16, 16))
    setting = Setting(train=False, batch=4, size=16)
    twin, gates, _ = stripped(network, example=(torch.zeros(2, 3, 16, 16),))
    sites = sites_of(network, gates, setting)
    counts = [count(prepare(n, "eager", setting, gated=n is network), sites, setting) for n in (network, twin)]
    more = extra(*counts, sites)
    assert [(one.forward, one.backward, one.kept) for one in more] == [(3, 0, None), (3, 0, None)]


def test_a_size_that_a_network_does_not_take(network):
    network(torch.zeros(1, 3, 16, 16))
    _, gates, _ = stripped(network, example=(torch.zeros(2, 3, 16, 16),))
    with pytest.raises(InputError, match=r"Sequential does not take images of shape \(4, 3, 32, 32\)"):
        sites_of(network, gates, Setting(batch=4, size=32))


def test_weights_as_large_as_a_map_are_no_map():
    """4 images of 4 x 4 pixels have as many elements as the weights of a convolution with 64 outputs."""
    network = nn.Sequential(nn.Conv2d(3, 8, 1), SEModule(8, rd_channels=64))
    setting = Setting(batch=4, size=4)
    twin, gates, _ = stripped(network, example=(torch.zeros(2, 3, 4, 4),))
    sites = sites_of(network, gates, setting)
    assert sites[0].elements == network[1].fc1.weight.numel()
    counts = [count(prepare(n, "eager", setting, gated=n is network), sites, setting) for n in (network, twin)]
    (more,) = extra(*counts, sites)
    assert (more.forward, more.backward) == (3, 10)
