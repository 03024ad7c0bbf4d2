from __future__ import annotations

import json

import pytest


def test_one_table(senet):
    code, out, _ = senet("reproduce", "table10")
    assert code == 0
    assert "6 of 6 figures agree" in out
    assert "30.7 M" in out
    assert "12 figures (errors, times, precisions) need runs: --check train, --check weights, --list." in out


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
    tpami = [line.split() for line in out[out.index("tpami") : out.index("cvpr")].splitlines()]
    assert ["11", "-", "4"] in [line[:3] for line in tpami]
    assert ["3", "12", "10", "not", "run", "ImageNet"] in [line[:6] for line in tpami]


def test_list_of_one_table_says_how_each_row_is_trained_and_what_was_run(senet):
    code, out, _ = senet("reproduce", "table13", "--list")
    assert code == 0
    assert "SE_Stage_2  imagenet.seresnet50_ablation" in out
    assert "SE_Stage_2  cifar_seresnet8" in out
    assert "not run; Table 7 is of detectors" in senet("reproduce", "Table 7", "--list")[1]


def test_a_comparison_of_ours_is_listed_and_has_nothing_to_count(senet, refused):
    everything = " ".join(senet("reproduce", "--list")[1].split())
    assert "structures - -" in everything
    code, out, _ = senet("reproduce", "structures", "--list")
    assert code == 0
    assert "not run; nobody published these structures" in out
    assert '{"placement":' in out
    assert "gate of the input" in out
    assert "'structures' is a comparison of ours, nothing published" in refused("reproduce", "structures")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table17"], "tpami has no table '17'"),
        (["text: tiem"], "did you mean 'text: time'"),
        (["table17", "--list"], "tpami has no table '17'"),
        (["2", "--edition", "cpvr"], "cpvr has no table '2'"),
    ],
)
def test_unknown_tables_are_refused(refused, words, message):
    assert message in refused("reproduce", *words)
