from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from senet.analysis.gates import DEAD, SATURATED, STILL, GateStatistics, measure_gates
from senet.errors import InputError
from senet.models import create_model

CLASSES = ("cat", "dog", "empty", "owl")


@pytest.fixture
def sample():
    generator = np.random.default_rng(0)
    labels = generator.choice([0, 1, 3], size=101)
    gates = 0.2 * generator.random((101, 7)) + 0.1 * labels[:, None] * generator.random(7)
    return gates, labels


def measured(gates, labels, *, batch):
    statistics = GateStatistics(CLASSES)
    for start in range(0, len(labels), batch):
        part = slice(start, start + batch)
        statistics.update("se", torch.from_numpy(gates[part]), torch.from_numpy(labels[part]))
    return statistics.sites["se"]


@pytest.mark.parametrize("batch", [1, 16, 101])
def test_against_numpy(sample, batch):
    gates, labels = sample
    site = measured(gates, labels, batch=batch)
    np.testing.assert_array_equal(site.count, np.bincount(labels, minlength=4))
    np.testing.assert_allclose(site.mean, gates.mean(0), rtol=1e-12)
    np.testing.assert_allclose(site.std, gates.std(0), rtol=1e-12)
    for k in (0, 1, 3):
        np.testing.assert_allclose(site.class_means[k], gates[labels == k].mean(0), rtol=1e-12)
        np.testing.assert_allclose(site.class_stds[k], gates[labels == k].std(0), rtol=1e-10, atol=1e-14)
    shares = np.bincount(labels, minlength=4) / len(labels)
    within = sum(shares[k] * gates[labels == k].var(0) for k in (0, 1, 3))
    between = sum(shares[k] * (gates[labels == k].mean(0) - gates.mean(0)) ** 2 for k in (0, 1, 3))
    np.testing.assert_allclose(site.within, within, rtol=1e-12)
    np.testing.assert_allclose(site.between, between, rtol=1e-12)
    np.testing.assert_allclose(site.between + site.within, gates.var(0), rtol=1e-12)
    assert site.share_between == pytest.approx(between.sum() / gates.var(0).sum(), rel=1e-12)


def test_a_class_without_images_is_nan(sample):
    site = measured(*sample, batch=10)
    assert site.class_means[2].isnan().all()
    assert site.class_stds[2].isnan().all()
    assert site.class_means[[0, 1, 3]].isfinite().all()


def test_no_cancellation_around_a_large_mean():
    gates = torch.tensor([[1e8], [1e8 + 1], [1e8 + 2]], dtype=torch.float64)
    site = measured(gates.numpy(), np.array([0, 0, 0]), batch=1)
    assert float(site.within[0]) == pytest.approx(2 / 3, rel=1e-9)


def test_still_dead_saturated():
    still = [0.5, 0.5]
    moving = [0.5 - 2 * STILL, 0.5 + 2 * STILL]
    dead, saturated = [DEAD / 2] * 2, [(1 + SATURATED) / 2] * 2
    site = measured(np.array([still, moving, dead, saturated]).T.copy(), np.array([0, 1]), batch=2)
    assert (site.still, site.dead, site.saturated) == (0.75, 0.25, 0.25)
    assert site.share_between == pytest.approx(1)


def test_gates_that_never_move_have_no_shares():
    site = measured(np.full((4, 3), 0.5), np.array([0, 0, 1, 1]), batch=4)
    assert math.isnan(site.share_between)
    assert site.still == 1


@pytest.mark.parametrize("labels", [[0, 4], [-1, 0]])
def test_labels_outside_the_classes(labels):
    with pytest.raises(InputError, match="for 4 classes"):
        GateStatistics(CLASSES).update("se", torch.rand(2, 3), torch.tensor(labels))


def test_gates_and_labels_that_do_not_match():
    with pytest.raises(InputError, match="runs twice"):
        GateStatistics(CLASSES).update("se", torch.rand(4, 3), torch.tensor([0, 1]))
    statistics = GateStatistics(CLASSES)
    statistics.update("se", torch.rand(2, 3), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="had 3 gates and now has 5"):
        statistics.update("se", torch.rand(2, 5), torch.tensor([0, 1]))


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
    with pytest.raises(InputError, match="has no squeeze-and-excitation block"):
        measure_gates(nn.Linear(2, 2), batches(1), CLASSES)
    net = create_model("cifar_seresnet8", num_classes=10, in_chans=1)
    with pytest.raises(InputError, match="at least one batch"):
        measure_gates(net, [], CLASSES)
