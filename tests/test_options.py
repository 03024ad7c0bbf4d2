from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from senet.errors import InputError
from senet.options import checked, fields_of, override, parse_assignments, to_plain


@dataclass(frozen=True)
class Inner:
    rate: float
    steps: int = 3


@dataclass(frozen=True)
class Outer:
    inner: Inner
    name: str = "plain"
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, float] = (1, 2.0)
    kind: Literal["a", "b", 3] = "a"
    on: bool = False
    limit: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    anything: Any = None


class Plain:
    def __init__(self, first: int, *, second: float = 1.0, **rest: int) -> None:
        pass


def test_fields_of_a_dataclass_a_class_and_a_function():
    def function(width: int, *more: int, depth=2) -> None:
        pass

    assert fields_of(Inner) == {"rate": float, "steps": int}
    assert fields_of(Plain) == {"first": int, "second": float}
    assert fields_of(function) == {"width": int, "depth": Any}


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("name", "x", "x"),
        ("sizes", [4, 5, 6], (4, 5, 6)),
        ("sizes", (), ()),
        ("pair", [4, 5], (4, 5.0)),
        ("kind", "b", "b"),
        ("kind", 3, 3),
        ("on", True, True),
        ("limit", None, None),
        ("limit", 7, 7),
        ("options", {"r": 4}, {"r": 4}),
        ("anything", [1, "x"], [1, "x"]),
        ("inner", Inner(2.0), Inner(2.0)),
        ("inner", {"rate": 2}, Inner(2.0)),
    ],
)
def test_values_are_converted_to_their_type(name, given, kept):
    result = checked(Outer, {name: given}, what="net")[name]
    assert result == kept
    assert type(result) is type(kept)


def test_a_whole_number_serves_as_a_number():
    result = checked(Inner, {"rate": 2}, what="net")["rate"]
    assert isinstance(result, float)
    assert result == 2


@pytest.mark.parametrize(
    ("name", "given", "accepted"),
    [
        ("name", 1, "text"),
        ("sizes", 4, "a list of a whole number"),
        ("sizes", [1, 2.5], "a whole number"),
        ("sizes", "12", "a list of a whole number"),
        ("pair", [1, 2, 3], "a list of a whole number and a number"),
        ("kind", "c", "'a', 'b', 3"),
        ("on", 1, "true or false"),
        ("limit", True, "a whole number or none"),
        ("limit", 2.0, "a whole number or none"),
        ("limit", "7", "a whole number or none"),
        ("options", [1], "names and values"),
        ("inner", 3, "Inner"),
    ],
)
def test_values_of_another_type_are_refused(name, given, accepted):
    with pytest.raises(InputError) as error:
        checked(Outer, {name: given}, what="net")
    message = str(error.value)
    assert message.startswith(f"net: option '{name}' is ")
    assert message.endswith(f"; accepted: {accepted}")
    assert "\n" not in message


@pytest.mark.parametrize("given", [True, "0.1", None])
def test_numbers_are_not_truths_nor_text(given):
    with pytest.raises(InputError, match=r"option 'rate' is .*; accepted: a number$"):
        checked(Inner, {"rate": given}, what="net")


def test_a_truth_is_no_literal_number():
    @dataclass
    class Choice:
        number: Literal[0, 1] = 0
        truth: Literal[True] = True

    assert checked(Choice, {"number": 1, "truth": True}, what="net") == {"number": 1, "truth": True}
    for wrong in ({"number": True}, {"truth": 1}):
        with pytest.raises(InputError, match=r"accepted"):
            checked(Choice, wrong, what="net")


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"^net has no option 'size'; did you mean 'sizes'"):
        checked(Outer, {"size": [1]}, what="net")
    with pytest.raises(InputError, match=r"^net: option 'inner' has no option 'rat'; did you mean 'rate'"):
        checked(Outer, {"inner": {"rat": 1}}, what="net")


def test_a_group_that_lacks_a_field_is_refused():
    with pytest.raises(InputError, match=r"^net: option 'inner' lacks 'rate'"):
        checked(Outer, {"inner": {"steps": 1}}, what="net")


def test_override_changes_a_copy():
    old = Outer(Inner(1.0))
    new = override(old, {"name": "new", "inner.rate": 5, "options.r": 2, "options.deep.width": 4}, what="net")
    assert new == Outer(Inner(5.0), name="new", options={"r": 2, "deep": {"width": 4}})
    assert old == Outer(Inner(1.0))


def test_override_keeps_the_rest_of_a_group():
    old = Outer(Inner(1.0, steps=9), options={"a": 1, "deep": {"b": 2}})
    new = override(old, {"inner.rate": 2.0, "inner.steps": 8, "options.deep.c": 3}, what="net")
    assert new == Outer(Inner(2.0, steps=8), options={"a": 1, "deep": {"b": 2, "c": 3}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nam": "x"}, "^net has no option 'nam'; did you mean 'name'"),
        ({"inner.rat": 1}, "^net inner has no option 'rat'; did you mean 'rate'"),
        ({"iner.rate": 1}, r"^net has no group 'iner' \(in 'iner.rate'\); did you mean 'inner'"),
        ({"name.rate": 1}, r"^net has no group 'name' \(in 'name.rate'\); known: inner, options"),
        ({"options.a.b": 1}, "^net: cannot set 'options.a.b': 'a' is 1, not names and values$"),
        ({"inner.rate": "x"}, "^net inner: option 'rate' is 'x'; accepted: a number$"),
    ],
)
def test_override_refuses(changes, message):
    with pytest.raises(InputError, match=message):
        override(Outer(Inner(1.0), options={"a": 1}), changes, what="net")


@pytest.mark.parametrize(
    ("assignment", "name", "value"),
    [
        ("optim.lr=0.1", "optim.lr", 0.1),
        ("sizes=[1, 2]", "sizes", [1, 2]),
        ('options={"r": 4}', "options", {"r": 4}),
        ("on=true", "on", True),
        ("on=False", "on", False),
        ("limit=None", "limit", None),
        ("limit=null", "limit", None),
        ("name=resnet50", "name", "resnet50"),
        ("name=a=b", "name", "a=b"),
        ("name=", "name", ""),
        (" name =x", "name", "x"),
    ],
)
def test_assignments(assignment, name, value):
    result = parse_assignments([assignment])
    assert result == {name: value}
    assert type(result[name]) is type(value)


def test_the_last_assignment_wins():
    assert parse_assignments(["a=1", "b=2", "a=3"]) == {"a": 3, "b": 2}


@pytest.mark.parametrize("assignment", ["optim.lr", "=3", " =3", ""])
def test_what_is_no_assignment_is_refused(assignment):
    with pytest.raises(InputError, match=r"an override is NAME=VALUE"):
        parse_assignments([assignment])


def test_plain_and_back():
    value = Outer(Inner(1.5), sizes=(3, 4), options={"deep": {"widths": (1, 2)}})
    plain = to_plain(value)
    assert plain["inner"] == {"rate": 1.5, "steps": 3}
    assert plain["sizes"] == [3, 4]
    assert plain["options"] == {"deep": {"widths": [1, 2]}}
    assert Outer(**checked(Outer, {**plain, "options": {}}, what="net")) == Outer(Inner(1.5), sizes=(3, 4))
