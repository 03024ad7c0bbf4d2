"""What functions mention is noted before they run: globals, closures, defaults, classes; changes are told after."""

from __future__ import annotations

import contextvars
import random
import types

import pytest
import torch
from torch import nn

from senet.surgery.graph.guards import Place, Unguardable
from senet.surgery.graph.outside import Outside, is_library, names_of

RATE, LISTED, SETTINGS = 1.0, [1.0], types.SimpleNamespace(rate=1.0, other=2.0)
COIN, VARIABLE, STREAM = random.Random(0), contextvars.ContextVar("VARIABLE"), iter([1.0])


class Owner:
    rate = 1.0

    @property
    def doubled(self):
        return self.rate * RATE

    def method(self, by=2.0):
        return self.rate * by


OWNER = Owner()


def helper(by=1.0):
    return RATE * by


def noted(function):
    outside = Outside()
    outside.note(function)
    return outside


def names(outside):
    return {place.name for place in outside.seen}


READS = {
    "a global": (lambda: RATE, {"RATE"}),
    "a list": (lambda: LISTED[0], {"LISTED"}),
    "an attribute": (lambda: SETTINGS.rate, {"SETTINGS", "SETTINGS.rate"}),
    "an attribute by its name": (lambda: getattr(SETTINGS, "rate"), {"SETTINGS", "SETTINGS.rate", "SETTINGS.other"}),  # noqa: B009
    "a function": (lambda: helper(), {"helper", "RATE"}),
    "a class": (lambda: Owner.rate, {"Owner", "Owner.rate"}),
    "a method of an object": (lambda: OWNER.method(), {"OWNER", "OWNER.rate", "OWNER.method", "Owner.method"}),
    "a property": (lambda: OWNER.doubled, {"OWNER", "OWNER.rate", "Owner.doubled", "RATE"}),
    "what a library has": (lambda: torch.relu, set()),
}


@pytest.mark.parametrize("name", READS)
def test_what_a_function_mentions(name):
    function, wanted = READS[name]
    assert names(noted(function)) == wanted


@pytest.mark.parametrize(
    "function", [lambda: COIN.random(), lambda: VARIABLE.get(), lambda: next(STREAM)], ids=["coin", "context", "stream"]
)
def test_what_cannot_be_compared_is_refused(function):
    with pytest.raises(Unguardable):
        noted(function)


def test_a_closure_is_noted_by_its_cell():
    kept = [1.0]
    outside = noted(lambda: kept[0])
    assert outside.changed() is None
    kept.append(2.0)
    assert outside.changed() == "kept"


def test_changes_are_told_by_name(monkeypatch):
    outside = noted(lambda: helper() + OWNER.method() + LISTED[0])
    assert outside.changed() is None
    monkeypatch.setattr(helper, "__defaults__", (2.0,))
    assert outside.changed() == "helper"
    monkeypatch.undo()
    monkeypatch.setattr(Owner, "rate", 3.0)
    assert outside.changed() == "OWNER.rate"


def test_globals_of_no_module_are_noted():
    own = {"RATE": 1.0}
    function = eval("lambda: RATE", own)
    outside = noted(function)
    own["RATE"] = 2.0
    assert outside.changed() == "RATE"
    assert RATE == 1.0


def test_the_class_of_a_module():
    class Net(nn.Module):
        rate = 1.0

        def forward(self, x):
            return x * type(self).rate

    outside = Outside()
    outside.note_class(Net, Net.forward, "forward")
    assert {Place(("Net",), (name,), owner=Net) for name in ("rate", "forward")} == set(outside.seen)


def test_names_are_those_of_functions_within_and_of_text():
    def function(x):
        return [getattr(x, "text") for _ in range(inner)]  # noqa: B009, F821

    assert {"inner", "text", "getattr", "range"} <= names_of(function.__code__)


def test_libraries():
    assert is_library("torch.nn")
    assert is_library("timm.layers.squeeze_excite")
    assert not is_library("timm.models.resnet")
    assert not is_library("__main__")
