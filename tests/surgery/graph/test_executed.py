"""Functions that run while a forward is traced, and tensors that are asked for their numbers."""

from __future__ import annotations

import operator
import os
import time
import types

import pytest
import torch

from senet.surgery.graph.executed import executed_noted, numbers_watched
from senet.surgery.graph.guards import Guards, Unguardable
from senet.surgery.graph.outside import Outside

RATE = 1.0
CHOSEN = types.MappingProxyType({"f": lambda: RATE})


def watched(function, *, quiet=False):
    outside, guards = Outside(), Guards()
    with executed_noted(outside, guards, lambda: quiet):
        function()
    return outside, guards


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda: time.time(), "clock"),
        (lambda: os.urandom(1), "operating system"),
        (lambda: "HOME" in os.environ, "operating system"),
        (lambda: eval("1"), "eval"),
        (lambda: torch.is_autocast_enabled("cpu"), "settings"),
    ],
    ids=["clock", "system", "environment", "eval", "autocast"],
)
def test_the_world_outside_is_refused(function, told):
    with pytest.raises(Unguardable, match=told):
        watched(function)
    watched(function, quiet=True)


def test_a_function_is_noted_wherever_it_came_from():
    outside, _ = watched(lambda: operator.getitem(CHOSEN, "f")())
    assert "RATE" in {place.name for place in outside.seen}


def test_answers_of_pytorch_are_kept():
    _, guards = watched(lambda: torch.is_grad_enabled())
    assert guards.asked == {"is_grad_enabled": True}


def test_others_that_watch_go_on():
    import sys

    def other(*_):
        """Watches too."""

    sys.setprofile(other)
    try:
        watched(lambda: None)
        assert sys.getprofile() is other
    finally:
        sys.setprofile(None)


NUMBERS = {
    "item": lambda t: t[0].item(),
    "tolist": lambda t: t.tolist(),
    "float": lambda t: float(t.sum()),
    "a branch": lambda t: bool(t.any()),
    "equal": lambda t: torch.equal(t, t),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_a_tensor_that_nobody_compares(name):
    tensor = torch.ones(3)
    with pytest.raises(Unguardable, match="numbers"), numbers_watched([], lambda: False):
        NUMBERS[name](tensor)
    with numbers_watched([tensor], lambda: False):
        NUMBERS[name](tensor)
    with numbers_watched([], lambda: False):
        NUMBERS[name](torch.linspace(0, 1, 3))
