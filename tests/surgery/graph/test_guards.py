"""Values of Python as they were: whatever a forward may read of an object is told when it changes."""

from __future__ import annotations

import collections
import copy
import dataclasses
import enum
import functools
import operator
import pickle
import random
import types
import uuid

import numpy as np
import pytest
import torch
from torch import nn

from senet.surgery.graph.guards import MISSING, Guards, Unguardable, is_constant, is_same, snapshot


@dataclasses.dataclass
class Config:
    rate: float = 0.5
    sizes: list = dataclasses.field(default_factory=lambda: [1, 2])


class Slotted:
    __slots__ = ("rate",)

    def __init__(self):
        self.rate = 0.5


class Derived(Slotted):
    __slots__ = ("other",)

    def __init__(self):
        super().__init__()
        self.other = 1


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Odd:
    """Compares with nothing."""

    def __eq__(self, other):
        raise RuntimeError

    __hash__ = None


CHANGES = {
    "config": (Config, lambda v: setattr(v, "rate", 0.25)),
    "what a config holds": (Config, lambda v: v.sizes.append(3)),
    "attribute that is new": (Config, lambda v: setattr(v, "more", 1)),
    "attribute that is gone": (Config, lambda v: delattr(v, "rate")),
    "namespace": (lambda: types.SimpleNamespace(a=1), lambda v: setattr(v, "a", 2)),
    "type of a number": (lambda: types.SimpleNamespace(a=1), lambda v: setattr(v, "a", True)),
    "slots": (Slotted, lambda v: setattr(v, "rate", 1.0)),
    "slots of a base": (Derived, lambda v: setattr(v, "rate", 1.0)),
    "slots of a subclass": (Derived, lambda v: setattr(v, "other", 2)),
    "list": (lambda: [1, 2], lambda v: v.append(3)),
    "order of a list": (lambda: [1, 2], lambda v: v.reverse()),
    "list in a list": (lambda: [1, [2]], lambda v: v[1].append(3)),
    "dictionary": (lambda: {"a": 1}, lambda v: v.update(a=2)),
    "key of a dictionary": (lambda: {"a": 1}, lambda v: v.update(b=1)),
    "key gone": (lambda: {"a": 1, "b": 2}, lambda v: v.pop("b")),
    "default dictionary": (lambda: collections.defaultdict(list, a=[1]), lambda v: v["a"].append(2)),
    "set": (lambda: {1, 2}, lambda v: v.add(3)),
    "queue": (lambda: collections.deque([1]), lambda v: v.append(2)),
    "tuple of lists": (lambda: ([1], 2), lambda v: v[0].append(2)),
    "array": (lambda: np.arange(3.0), lambda v: v.__setitem__(0, 7.0)),
    "large array": (lambda: np.zeros(1000), lambda v: v.__setitem__(999, 7.0)),
    "shape of an array": (lambda: np.zeros((2, 3)), lambda v: v.resize((3, 2))),
    "partial": (
        lambda: functools.partial(round, ndigits=1),
        lambda v: v.__setstate__((round, (), {"ndigits": 2}, {})),
    ),
    "small tensor in a list": (lambda: [torch.zeros(3)], lambda v: v[0].fill_(1)),
    "object in a dictionary": (lambda: {"cfg": Config()}, lambda v: setattr(v["cfg"], "rate", 1)),
    "module in a list": (lambda: [nn.Dropout(0.5)], lambda v: setattr(v[0], "p", 0.25)),
    "enum in a list": (lambda: [Colour.RED], lambda v: v.__setitem__(0, Colour.BLUE)),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_is_told(kind):
    make, change = CHANGES[kind]
    value = make()
    seen = snapshot(value)
    assert is_same(value, seen)
    assert is_same(make(), seen)
    change(value)
    assert not is_same(value, seen)


@pytest.mark.parametrize("kind", CHANGES)
def test_a_snapshot_is_not_changed_with_its_value(kind):
    make, change = CHANGES[kind]
    value = make()
    seen = snapshot(value)
    change(value)
    assert is_same(make(), seen)


@pytest.mark.parametrize(
    "value", [None, True, 3, 0.5, "mean", (1 + 2j), torch.float32, Colour.RED, len, Config, operator.add, slice(2)]
)
def test_constants_are_their_own_snapshots(value):
    assert is_constant(value)
    assert snapshot(value) is value
    assert is_same(value, snapshot(value))
    assert not is_same([], snapshot(value))


@pytest.mark.parametrize(("value", "other"), [(1, True), (1, 1.0), (0, False), (Colour.RED, Colour.BLUE), (len, max)])
def test_constants_that_python_calls_equal_are_not_the_same_unless_they_are(value, other):
    assert is_same(value, snapshot(value))
    assert not is_same(other, snapshot(value))


def test_an_object_of_another_class_is_another():
    assert not is_same(collections.OrderedDict(a=1), snapshot({"a": 1}))
    assert not is_same((1, [2]), snapshot([1, [2]]))
    assert not is_same(None, snapshot([1]))


def test_an_object_that_holds_itself_has_a_snapshot():
    value = [1]
    value.append(value)
    seen = snapshot(value)
    assert is_same(value, seen)
    value[0] = 2
    assert not is_same(value, seen)


def test_an_object_met_twice_is_told_from_another_in_its_place():
    shared = [1]
    value = {"a": shared, "b": shared}
    seen = snapshot(value)
    assert is_same(value, seen)
    assert is_same(copy.deepcopy(value), pickle.loads(pickle.dumps(seen)))
    value["b"] = [2]
    assert not is_same(value, seen)


def test_tuples_met_twice_are_compared_by_what_is_in_them():
    pair = (1, [2])
    value = [pair, pair, (), ()]
    seen = snapshot(value)
    assert is_same(value, seen)
    value[0] = (1, [3])
    assert not is_same(value, seen)


def test_objects_that_compare_with_nothing_have_snapshots():
    odd = Odd()
    odd.rate = 1
    seen = snapshot(odd)
    assert is_same(odd, seen)
    odd.rate = 2
    assert not is_same(odd, seen)


def test_partials_differ_by_function_arguments_and_keywords():
    seen = snapshot(functools.partial(round, 1.5, ndigits=1))
    assert is_same(functools.partial(round, 1.5, ndigits=1), seen)
    assert not is_same(functools.partial(pow, 1.5, ndigits=1), seen)
    assert not is_same(functools.partial(round, 2.5, ndigits=1), seen)
    assert not is_same(functools.partial(round, 1.5, ndigits=2), seen)


def test_tensors_of_many_numbers_are_the_same_by_shape():
    value = [torch.zeros(100)]
    seen = snapshot(value)
    value[0] = torch.ones(100)
    assert is_same(value, seen)
    value[0] = torch.ones(101)
    assert not is_same(value, seen)


@pytest.mark.parametrize(
    "make",
    [
        lambda: random.Random(0),
        torch.Generator,
        lambda: np.random.default_rng(0),
        lambda: np.random.RandomState(0),
        lambda: np.random.PCG64(0),
    ],
)
def test_generators_of_random_numbers_are_refused(make):
    for value in (make(), [make()], {"rng": make()}, types.SimpleNamespace(rng=make())):
        with pytest.raises(Unguardable, match="random numbers"):
            snapshot(value)


@pytest.mark.parametrize("make", [lambda: iter([1, 2]), lambda: (i for i in range(3)), lambda: map(abs, [1])])
def test_iterators_are_refused_unread(make):
    value = make()
    with pytest.raises(Unguardable, match="used up"):
        snapshot([value])
    assert list(value) == list(make())


def test_objects_that_hold_more_than_can_be_compared_are_refused():
    assert is_same([[] for _ in range(1000)], snapshot([[] for _ in range(1000)]))
    with pytest.raises(Unguardable, match="more than"):
        snapshot([[] for _ in range(10_001)])


def test_a_missing_attribute_stays_one_object():
    assert copy.deepcopy(MISSING) is MISSING
    assert pickle.loads(pickle.dumps(MISSING)) is MISSING
    assert is_same(MISSING, snapshot(MISSING))


def test_guards_of_the_same_values_are_equal():
    first, second = (Guards(attributes={("", "cfg"): snapshot(Config())}) for _ in range(2))
    assert first == second
    second.attributes["", "cfg"] = snapshot(Config(rate=1.0))
    assert first != second
    assert Guards(square=True) != Guards()


def test_snapshots_can_be_stored():
    seen = snapshot({"ids": [uuid.UUID(int=3)], "sizes": (1, [2])})
    assert pickle.loads(pickle.dumps(seen)) == seen
