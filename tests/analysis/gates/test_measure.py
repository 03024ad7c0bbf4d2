from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from senet.analysis.gates.measure import measure_gates
from senet.errors import InputError
from senet.models import create_model

CLASSES = ("cat", "dog", "empty", "owl")


def batches(count):
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(4, 1, 8, 8, generator=generator), torch.arange(4)) for _ in range(count)]


def test_measure_gates_restores_modes_and_leaves_buffers():
    torch.manual_seed(0)
    net = create_model("cifar_seresnet8", num_classes=10, in_chans=1).train()
    net.bn1.eval()
    modes = [m.training for m in net.modules()]
    buffers = {name: value.clone() for name, value in net.named_buffers()}
    statistics = measure_gates(net, batches(3), CLASSES)
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(value, buffers[name]) for name, value in net.named_buffers())
    assert list(statistics.sites) == ["layer1.0.se", "layer2.0.se", "layer3.0.se"]
    for site, channels in zip(statistics.sites.values(), (16, 32, 64), strict=True):
        assert site.count.tolist() == [3, 3, 3, 3]
        assert site.mean.shape == (channels,)
        assert 0 < float(site.mean.min()) < float(site.mean.max()) < 1


def test_measure_gates_does_not_depend_on_the_batches():
    torch.manual_seed(0)
    net = create_model("cifar_seresnet8", num_classes=10, in_chans=1)
    parts = batches(3)
    whole = [(torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts]))]
    one, other = (measure_gates(net, given, CLASSES).sites["layer2.0.se"] for given in (parts, whole))
    torch.testing.assert_close(one.between, other.between, rtol=1e-4, atol=1e-12)
    torch.testing.assert_close(one.within, other.within, rtol=1e-4, atol=1e-12)


def test_modes_are_restored_after_an_exception():
    net = create_model("cifar_seresnet8", num_classes=10, in_chans=1).train()
    with pytest.raises(InputError, match="for 1 classes"):
        measure_gates(net, batches(1), ["only"])
    assert net.training
    assert net.layer1.training


def test_nothing_to_measure():
    with pytest.raises(InputError, match="Linear has no map that is gated"):
        measure_gates(nn.Linear(2, 2), batches(1), CLASSES)
    net = create_model("cifar_seresnet8", num_classes=10, in_chans=1)
    with pytest.raises(InputError, match="no batch of images"):
        measure_gates(net, [], CLASSES)


def test_any_network_is_measured():
    net = timm.create_model("test_efficientnet", in_chans=1)
    statistics = measure_gates(net, [(torch.randn(4, 1, 32, 32), torch.arange(4))], CLASSES)
    assert all(site.count.tolist() == [1, 1, 1, 1] for site in statistics.sites.values())
    assert list(statistics.sites) == ["blocks.3.0.se", "blocks.4.0.se"]


def test_images_that_are_no_numbers():
    net = create_model("cifar_seresnet8", num_classes=10, in_chans=1)
    broken = batches(2)
    broken[1][0][2, 0, 3, 3] = torch.nan
    with pytest.raises(InputError, match=r"gates of layer1.0.se, layer2.0.se, layer3.0.se are not finite"):
        measure_gates(net, broken, CLASSES)
