from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from senet.analysis.gates.statistics import DEAD, SATURATED, STILL, TOGETHER, GateStatistics
from senet.errors import InputError

CLASSES = ("cat", "dog", "empty", "owl")


@pytest.fixture
def sample():
    generator = np.random.default_rng(0)
    labels = generator.choice([0, 1, 3], size=601)
    gates = 0.2 * generator.random((601, 7)) + 0.1 * labels[:, None] * generator.random(7)
    return gates, labels


def measured(gates, labels, *, batch):
    statistics = GateStatistics(CLASSES)
    for start in range(0, len(labels), batch):
        part = slice(start, start + batch)
        statistics.update("se", torch.from_numpy(gates[part]), torch.from_numpy(labels[part]))
    return statistics.sites["se"]


@pytest.mark.parametrize("batch", [1, 16, 100, TOGETHER, 601])
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


@pytest.mark.parametrize(
    ("value", "inside"), [(0.0, True), (1.0, True), (-0.1, False), (1.1, False), (torch.nan, False)]
)
def test_whether_means_lie_from_0_to_1(value, inside):
    statistics = GateStatistics()
    statistics.add("se", torch.tensor([[0.5, value]]))
    assert statistics.sites["se"].within_one is inside


def test_gates_that_never_move_have_no_shares():
    site = measured(np.full((4, 3), 0.5), np.array([0, 0, 1, 1]), batch=4)
    assert math.isnan(site.share_between)
    assert site.still == 1


@pytest.mark.parametrize("labels", [[0, 4], [-1, 0]])
def test_labels_outside_the_classes(labels):
    with pytest.raises(InputError, match="for 4 classes"):
        GateStatistics(CLASSES).update("se", torch.rand(2, 3), torch.tensor(labels))


def test_gates_and_labels_that_do_not_match():
    with pytest.raises(InputError, match="2 labels for the gates of 3 images; give one for each image"):
        GateStatistics(CLASSES).update("se", torch.rand(3, 3), torch.tensor([0, 1]))
    with pytest.raises(InputError, match=r"gates \(3,\); accepted: \(images, channels\)"):
        GateStatistics().add("se", torch.rand(3))
    statistics = GateStatistics(CLASSES)
    statistics.update("se", torch.rand(2, 3), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="had 3 gates and now has 5"):
        statistics.update("se", torch.rand(2, 5), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("labels", "given"),
    [
        ([0, 1], "list"),
        (torch.zeros(2, 1, dtype=torch.long), r"torch.int64 \(2, 1\)"),
        (torch.zeros(2), r"torch.float32 \(2,\)"),
    ],
)
def test_labels_that_are_none(labels, given):
    with pytest.raises(InputError, match=f"labels are {given}; accepted"):
        GateStatistics(CLASSES).checked(labels)


@pytest.mark.parametrize("classes", [(), "cat"])
def test_classes_that_are_none(classes):
    with pytest.raises(InputError, match="accepted: a list of names"):
        GateStatistics(classes)


def test_without_classes_no_labels():
    gates, statistics = torch.rand(650, 3, dtype=torch.float64), GateStatistics()
    for part in gates.split(300):
        statistics.add("se", part)
    site = statistics.sites["se"]
    assert site.count.tolist() == [650]
    torch.testing.assert_close(site.mean, gates.mean(0))
    torch.testing.assert_close(site.std, gates.std(0, unbiased=False))
    with pytest.raises(InputError, match="no labels for 4 classes"):
        GateStatistics(CLASSES).add("se", gates)


def test_reading_on_the_way_changes_nothing(sample):
    gates, labels = (torch.from_numpy(x) for x in sample)
    statistics, seen = GateStatistics(CLASSES), []
    for rows, classes in zip(gates.split(7), labels.split(7), strict=True):
        statistics.update("se", rows, classes)
        seen.append(statistics.sites["se"])
    assert [int(site.count.sum()) for site in seen] == [*range(7, 601, 7), 601]
    torch.testing.assert_close(seen[-1].mean, gates.mean(0))
    torch.testing.assert_close(seen[2].mean, gates[:21].mean(0))


def test_no_images():
    statistics = GateStatistics()
    statistics.add("se", torch.rand(0, 3))
    assert statistics.sites["se"].mean.isnan().all()
    statistics.add("se", torch.rand(1, 3))
    assert statistics.sites["se"].count.tolist() == [1]


def test_a_gate_that_is_no_number_is_seen():
    statistics = GateStatistics(CLASSES)
    statistics.update("se", torch.tensor([[0.5, 0.5], [torch.nan, 0.5]]), torch.tensor([0, 1]))
    site = statistics.sites["se"]
    assert site.mean.isnan().tolist() == [True, False]
    assert site.class_means[0].tolist() == [0.5, 0.5]


def test_gathered_in_inference_mode_and_outside():
    gates, statistics = torch.rand(6, 3), GateStatistics()
    with torch.inference_mode():
        statistics.add("se", gates[:2])
        statistics.add("se", gates[2:4].clone())
    statistics.add("se", gates[4:])
    torch.testing.assert_close(statistics.sites["se"].mean, gates.double().mean(0))
    assert not statistics.sites["se"].mean.is_inference()
