from __future__ import annotations

import json

import pytest


def test_one_table(senet):
    code, out, _ = senet("reproduce", "table10")
    assert code == 0
    assert "6 of 6 figures agree" in out
    assert "30.7 M" in out
    assert "12 figures (errors, times, precisions) can be checked by running alone: not run." in out


def test_differences_are_shown_with_what_is_known_of_them(senet):
    code, out, _ = senet("reproduce", "3", "--check", "complexity")
    assert code == 0
    assert "10 of 12 figures agree, 2 differ." in out
    assert "137,460,672  differs" in out
    assert "quoted from its own paper" in out


def test_json(senet):
    code, out, _ = senet("reproduce", "text: overhead", "--edition", "cvpr", "--json")
    assert code == 0
    (claim,) = json.loads(out)
    assert claim["agrees"]
    assert claim["ours"] == "3.69 %"


def test_list(senet):
    code, out, _ = senet("reproduce", "--list")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["tpami", "10", "6", "12", "Reduction", "ratio"] in lines
    assert ["tpami", "11", "-", "4", "Squeeze"] in lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table17"], "tpami has no table 'table17'"),
        (["text: tiem"], "did you mean 'text: time'"),
        (["10", "--list"], "--list shows all tables; leave TABLE out"),
        (["2", "--edition", "cpvr"], "cpvr has no table '2'"),
    ],
)
def test_unknown_tables_are_refused(refused, words, message):
    assert message in refused("reproduce", *words)
