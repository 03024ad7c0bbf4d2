from __future__ import annotations

import numpy as np
import pytest
import torch

from senet.analysis.lab.statistics import similarity, similarity_order, spectrum


def test_spectrum_against_numpy():
    gates = np.random.default_rng(0).random((40, 7)) @ np.diag(np.arange(1, 8.0))
    values = np.linalg.eigvalsh(np.cov(gates.T))
    share = values / values.sum()
    found = spectrum(torch.from_numpy(gates))
    assert found.effective_rank == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-12)
    assert found.participation_ratio == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-12)


def test_gates_that_move_together_have_one_direction_and_independent_ones_as_many_as_there_are():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    together = spectrum(torch.outer(t, torch.tensor([0.1, 0.5, 0.3], dtype=torch.float64)) + 0.2)
    assert (together.effective_rank, together.participation_ratio) == pytest.approx((1, 1))
    apart = spectrum(torch.cat([torch.eye(5), -torch.eye(5)]))
    assert (apart.effective_rank, apart.participation_ratio) == pytest.approx((5, 5))


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_gates_that_do_not_move_have_none(value):
    gates = torch.full((100, 8), value)
    assert spectrum(gates).effective_rank == 0
    rounding = torch.randn(100, 8, generator=torch.Generator().manual_seed(0)) * 1e-8
    assert spectrum(gates + rounding).effective_rank == 0 or value == 0


def test_fewer_images_than_channels():
    assert 1 <= spectrum(torch.rand(3, 50)).effective_rank <= 2


def test_similarity_against_numpy():
    means = np.random.default_rng(0).random((4, 9))
    np.testing.assert_allclose(similarity(torch.from_numpy(means)), np.corrcoef(means), rtol=1e-12, atol=1e-14)


def test_similarity_that_is_not_defined():
    means = torch.rand(3, 5, dtype=torch.float64)
    means[1] = 0.5
    means[2] = torch.nan
    found = similarity(means)
    assert found[0, 0] == pytest.approx(1)
    assert found.isnan().sum() == 8
    assert similarity(torch.rand(3, 1, dtype=torch.float64)).isnan().all()


def test_the_order_puts_those_that_are_alike_together():
    group = torch.tensor([0, 1, 0, 1, 0, 1])
    alike = torch.where(group[:, None] == group, 0.9, -0.5).double().fill_diagonal_(1)
    order = similarity_order([alike, alike])
    assert sorted(order) == list(range(6))
    assert group[order].tolist() in ([0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0])
    assert similarity_order([alike]) == order
    assert sorted(similarity_order([torch.full((3, 3), torch.nan)])) == [0, 1, 2]
