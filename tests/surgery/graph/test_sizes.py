"""Inputs at other sizes and batches than the example's."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from senet.surgery.graph.calls import Call
from senet.surgery.graph.guards import Guards
from senet.surgery.graph.sizes import elsewhere, other_sizes, smaller
from senet.surgery.graph.walk import Reading


def reading(*shapes, dtype=torch.float64):
    tensors = [torch.empty(shape, dtype=dtype, device="meta") for shape in shapes]
    return Reading(nn.Identity(), nn.Identity(), "", Call.of(tensors, {})[0], tensors, {False: Guards()}, fx.Graph())


def shapes(inputs):
    return [tuple(t.shape) for t in inputs]


@pytest.mark.parametrize("size", [[12], [12, 12], [7, 9], [4, 5, 6], [1, 1]])
def test_other_sizes_of_a_map_are_no_square_and_not_its_own(size):
    found = other_sizes(size)
    assert len(found) == 3
    assert size not in found
    assert all(len(other) == len(size) for other in found)
    assert all(len(set(other)) == len(other) for other in found[::2] if len(set(size)) == 1)
    assert any(max(other) >= 2 * max(size) for other in found)


def test_other_sizes_of_a_square_map_are_square():
    found = other_sizes([12, 12], square=True)
    assert all(len(set(other)) == 1 for other in found)
    assert [12, 12] not in found
    assert {other[0] % 2 for other in found} == {0, 1}


def test_elsewhere_is_larger_and_odd_and_has_another_batch():
    found = [shapes(inputs) for inputs in elsewhere(reading((2, 8, 12, 12)))]
    assert found == [[(3, 8, 13, 14)], [(2, 8, 24, 36)]]
    assert [shapes(inputs) for inputs in elsewhere(reading((2, 8, 12, 12)), larger=False)] == found[:1]


def test_elsewhere_stays_square_where_asked():
    for inputs in elsewhere(reading((2, 8, 12, 12), (2, 8, 12, 12)), square=True):
        assert all(t.shape[2] == t.shape[3] != 12 for t in inputs)


def test_maps_of_several_sizes_grow_by_the_same_factor_and_gates_do_not():
    for inputs in elsewhere(reading((2, 8, 12, 12), (2, 8, 6, 6), (2, 8, 1, 1), (2, 8))):
        one, half, gate, numbers = shapes(inputs)
        assert (one[2], one[3]) == (2 * half[2], 2 * half[3])
        assert one != (2, 8, 12, 12)
        assert gate[2:] == (1, 1)
        assert len(numbers) == 2
        assert len({shape[0] for shape in (one, half, gate, numbers)}) == 1


def test_batches_stay_where_tensors_differ_in_them():
    for inputs in elsewhere(reading((2, 8, 12, 12), (5, 3))):
        assert [t.shape[0] for t in inputs] == [2, 5]


def test_huge_maps_are_not_multiplied():
    assert len(list(elsewhere(reading((1, 1, 1024, 1024))))) == 1


def test_smaller_maps_have_few_positions():
    assert shapes(smaller(reading((2, 8, 64, 64)))) == [(3, 8, 5, 7)]
    assert shapes(smaller(reading((2, 8, 64, 64)), square=True)) == [(3, 8, 5, 5)]
    assert shapes(smaller(reading((2, 8, 64, 6)))) == [(3, 8, 5, 6)]
    assert shapes(smaller(reading((2, 8, 64, 64), (2, 8)))) == [(3, 8, 5, 7), (3, 8)]


@pytest.mark.parametrize("given", [[(2, 8, 7, 7)], [(2, 8)], [(2, 8, 64, 64), (2, 8, 32, 32)], [(2, 8, 1, 1)]])
def test_there_is_none_smaller_of_few_positions_several_sizes_or_no_map(given):
    assert smaller(reading(*given)) is None


def test_inputs_are_random_in_float64_and_the_same_each_time():
    first, second = smaller(reading((2, 8, 64, 64), (2, 8, 64, 64))), smaller(reading((2, 8, 64, 64), (2, 8, 64, 64)))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])
    assert {t.dtype for t in first} == {torch.float64}
