"""The account of surgery: how it reads, whose it is, and how it is kept and forgotten."""

from __future__ import annotations

import copy

import pytest
from torch import nn

import senet
from senet.errors import InputError
from senet.surgery.report import Report, forget, has_report, keep, report


def test_it_reads_as_a_table_and_a_sum():
    done = Report("fused", [("a.se", "gate"), ("b", "norm + gate")], [("head.gate", "it has hooks")])
    assert str(done).splitlines() == [
        "a.se       gate",
        "b          norm + gate",
        "head.gate  left alone: it has hooks",
        "fused: 2 sites taken, 1 left alone",
    ]


def test_an_empty_one_is_one_line():
    assert str(Report("folded")) == "folded: 0 sites taken, 0 left alone"


def test_rows_follow_the_modules():
    model = nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU()), nn.ReLU())
    done = Report("fused", [("2", "x"), ("the model", "y"), ("1.0", "z"), ("0", "w")], [("2", "a"), ("1", "b")])
    done.sort(model)
    assert [path for path, _ in done.taken] == ["0", "1.0", "2", "the model"]
    assert [path for path, _ in done.left] == ["1", "2"]


def test_a_model_without_one_is_told_so():
    model = nn.ReLU()
    assert not has_report(model)
    with pytest.raises(InputError, match="ReLU has no blocks attached, and is neither fused nor folded"):
        report(model)


def test_it_is_of_the_module_it_was_kept_with():
    model, done = nn.Sequential(nn.ReLU()), Report("fused")
    keep(model, done)
    assert report(model) is senet.report(model) is done
    assert not has_report(model[0])


def test_earlier_ones_are_kept_and_read_first():
    model = nn.ReLU()
    keep(model, Report("attached", [("a", "SE")]))
    keep(model, Report("fused", [("a", "gate")]))
    assert report(model).verb == "fused"
    assert report(model).earlier.verb == "attached"
    assert [line for line in str(report(model)).splitlines() if ":" in line] == [
        "attached: 1 sites taken, 0 left alone",
        "fused: 1 sites taken, 0 left alone",
    ]
    assert has_report(model, "attached")
    assert has_report(model, "fused")
    assert not has_report(model, "folded")


@pytest.mark.parametrize(
    ("verbs", "verb", "stay"),
    [
        (["attached", "fused"], "fused", ["attached"]),
        (["attached", "fused", "frozen", "fused"], "fused", ["attached", "frozen"]),
        (["fused"], "fused", []),
        (["attached", "fused"], "folded", ["attached", "fused"]),
    ],
)
def test_those_of_one_verb_are_forgotten(verbs, verb, stay):
    model = nn.Sequential(nn.ReLU())
    for module in model.modules():
        for each in verbs:
            keep(module, Report(each))
    forget(model, verb)
    for module in model.modules():
        left, each = [], report(module) if has_report(module) else None
        while each is not None:
            left.insert(0, each.verb)
            each = each.earlier
        assert left == stay


def test_a_copy_has_its_own():
    model = nn.ReLU()
    keep(model, Report("fused", [("a", "gate")]))
    twin = copy.deepcopy(model)
    report(twin).taken.clear()
    assert report(model).taken == [("a", "gate")]


def test_it_is_no_part_of_the_state():
    model = nn.Linear(2, 2)
    names = list(model.state_dict())
    keep(model, Report("fused"))
    assert list(model.state_dict()) == names
