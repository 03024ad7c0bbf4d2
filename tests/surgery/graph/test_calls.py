"""Ways to call a module: the tensors in its arguments, everything else as constants, and both put together again."""

from __future__ import annotations

import collections
import enum

import pytest
import torch
from torch import fx

from senet.surgery.graph.calls import Call, NotPlainError, is_plain

Pair = collections.namedtuple("Pair", ["map", "scale"])
A, B = torch.zeros(2, 3, 4, 5), torch.ones(2, 3)


class Colour(enum.Enum):
    RED = 1


class Size(list):
    """A list of somebody's own."""


def same(got, wanted):
    """Whether two arguments are the same tensors and constants in the same containers."""
    if isinstance(wanted, torch.Tensor):
        return got is wanted
    if isinstance(wanted, dict):
        return list(got) == list(wanted) and all(same(got[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list | tuple):
        return len(got) == len(wanted) and all(map(same, got, wanted))
    return type(got) is type(wanted) and got == wanted


ARGUMENTS = {
    "tensors": (A, B),
    "lists": ([A, [B]],),
    "tuples": ((A, (B, 1)),),
    "dictionaries": ({"x": A, "y": {"z": B}},),
    "named tuples": (Pair(A, 0.5),),
    "none": (A, None, True),
    "constants": (A, 1, 2.5, "mean", torch.float32, torch.Size([1, 2]), Colour.RED, slice(1, None), ...),
    "nothing": (),
}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_arguments_are_taken_apart_and_put_together(kind):
    given = ARGUMENTS[kind]
    call, tensors = Call.of(given, {"named": given})
    assert call.tensors == len(tensors) == 2 * sum(a is A or a is B for a in torch.utils._pytree.tree_leaves(given))
    args, kwargs = call.rebuild(tensors)
    assert same(args, given)
    assert same(kwargs, {"named": given})
    found = call.match(given, {"named": given})
    assert len(found) == len(tensors)
    assert all(a is b for a, b in zip(found, tensors, strict=True))


def test_containers_come_back_as_what_they_were():
    given = (Pair(A, 1), [B], (A,), {"x": B})
    call, tensors = Call.of(given, {})
    args, _ = call.rebuild(tensors)
    assert [type(a) for a in args] == [Pair, list, tuple, dict]


def test_a_container_of_somebodys_own_comes_back_as_a_plain_one():
    call, tensors = Call.of((Size([A]), collections.OrderedDict(x=B)), {})
    args, _ = call.rebuild(tensors)
    assert [type(a) for a in args] == [list, dict]
    assert call.match((Size([A]), collections.OrderedDict(x=B)), {}) is not None


def test_calls_with_tensors_of_the_same_kind_are_equal():
    assert Call.of((A, [1, B]), {"flag": True})[0] == Call.of((A + 1, [1, B * 2]), {"flag": True})[0]
    assert Call.of((A,), {"flag": True})[0] != Call.of((A,), {"flag": False})[0]
    assert Call.of((A,), {})[0] != Call.of((B,), {})[0]


def test_calls_of_tensors_by_position_alone_are_plain():
    assert Call.of((A, B), {})[0].plain
    assert not Call.of((A,), {"s": B})[0].plain
    assert not Call.of(([A],), {})[0].plain
    assert not Call.of((A, 1), {})[0].plain


def test_ranks_are_those_of_the_tensors_in_order():
    assert Call.of(([A, B], A), {"z": B[0]})[0].ndims() == [4, 2, 4, 1]


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((A[0], 1, [B, None]), {"flag": True}),  # another rank
        ((A.long(), 1, [B, None]), {"flag": True}),
        ((A[:0], 1, [B, None]), {"flag": True}),
        ((A, 2, [B, None]), {"flag": True}),
        ((A, 1.0, [B, None]), {"flag": True}),
        ((A, True, [B, None]), {"flag": True}),
        ((A, 1, [B, B]), {"flag": True}),
        ((A, 1, [None, B]), {"flag": True}),
        ((A, 1, [B]), {"flag": True}),
        ((A, 1, (B, None)), {"flag": True}),
        ((A, 1, [B, None]), {"flag": False}),
        ((A, 1, [B, None]), {"flag": 1}),
        ((A, 1, [B, None]), {"other": True}),
        ((A, 1, [B, None]), {}),
        ((A, 1, [B, None], None), {"flag": True}),
        ((A, 1), {"flag": True}),
        ((None, 1, [B, None]), {"flag": True}),
        ((A, A, [B, None]), {"flag": True}),
    ],
)
def test_arguments_of_another_kind_do_not_match(args, kwargs):
    call, _ = Call.of((A, 1, [B, None]), {"flag": True})
    assert call.match((A, 1, [B, None]), {"flag": True}) is not None
    assert call.match(args, kwargs) is None


def test_other_keys_do_not_match():
    call, _ = Call.of(({"x": A},), {})
    assert call.match(({"y": A},), {}) is None
    assert call.match(({"x": A, "y": B},), {}) is None
    assert call.match((A,), {}) is None


def test_other_sizes_floating_dtypes_and_devices_match():
    call, _ = Call.of((A,), {})
    for other in (torch.zeros(7, 1, 2, 2), A.half(), A.double(), A.to("meta")):
        assert call.match((other,), {}) == [other]


def test_tensors_of_whole_numbers_match_their_like():
    call, _ = Call.of((A.long(),), {})
    assert call.match((A.bool(),), {}) is not None
    assert call.match((A,), {}) is None


def test_proxies_match_where_a_tracer_asks():
    call, _ = Call.of((A, 1), {})
    graph = fx.Graph()
    proxy = fx.Proxy(graph.placeholder("x"))
    assert call.match((proxy, 1), {}, proxies=True) == [proxy]
    assert call.match((proxy, 1), {}) is None
    assert call.match((proxy, 2), {}, proxies=True) is None


@pytest.mark.parametrize("value", [object(), {1, 2}, lambda x: x, iter([1])])
def test_anything_else_is_refused_by_the_name_of_its_type(value):
    with pytest.raises(NotPlainError, match=f"^{type(value).__name__}$"):
        Call.of((A, [value]), {})
    with pytest.raises(NotPlainError):
        Call.of((A,), {"name": {"x": value}})


def test_plain_values_are_those_that_cannot_change():
    assert all(map(is_plain, (None, True, 1, 1.5, 1j, "a", b"a", slice(3), ..., torch.device("cpu"), torch.strided)))
    assert all(map(is_plain, (torch.contiguous_format, torch.Size([1]), Colour.RED, range(3))))
    assert not any(map(is_plain, ([], (), {}, A, object(), len)))
