from __future__ import annotations

import dataclasses
from decimal import Decimal

import pytest

from senet.analysis import claims
from senet.analysis.claims import check_counts, check_figures, countable
from senet.published import Figure, counts, figures

DIFFERING = {
    ("tpami, table 2", "ResNeXt-101 (32x4d)"),
    ("tpami, table 2", "Inception-ResNet-v2"),
    ("tpami, table 2", "SE-Inception-ResNet-v2"),
    ("tpami, table 3", "ShuffleNet"),
    ("tpami, table 3", "SE-ShuffleNet"),
}


def test_all_figures_agree_or_it_is_known_why_not():
    done = []
    found = list(check_figures(figures(), progress=lambda *both: done.append(both)))
    assert done[-1] == (len(found), len(found)) == (167, 167)
    differing = [claim for claim in found if not claim.agrees]
    assert {(claim.where, claim.row) for claim in differing} == DIFFERING
    assert all(claim.words and claim.what == "multiply adds" for claim in differing)


def test_what_training_alone_can_check_is_left_out():
    left = {figure.metric for figure in figures() if not countable(figure)}
    assert {"top1_error", "top5_error", "ap", "step_time", "inference_time"} <= left
    assert not left & {"parameters", "multiply_adds", "top1_gain", "units", "parameters_increase"}


@pytest.mark.parametrize(
    ("metric", "edition", "table"),
    [
        ("parameters", "tpami", "10"),
        ("multiply_adds", "tpami", "3"),
        ("units", "tpami", "1"),
        ("hidden", "tpami", "1"),
        ("output", "tpami", "1"),
        ("top1_gain", "tpami", "2"),
        ("ap_gain", "tpami", "text: detection"),
        ("parameters_added", "tpami", "text: overhead"),
        ("parameters_increase", "cvpr", "text: overhead"),
    ],
)
def test_a_wrong_figure_does_not_agree(metric, edition, table):
    figure = figures(metric=metric, edition=edition, table=table)[0]
    wrong = dataclasses.replace(figure, value=figure.value + 1 if metric != "parameters_increase" else Decimal(5))
    right, changed = check_figures([figure, wrong])
    assert right.agrees
    assert not changed.agrees
    assert right.ours == changed.ours


def test_the_papers_quarter_of_a_percent_is_a_ratio_of_rounded_figures():
    (claim,) = check_figures(figures(metric="multiply_adds_increase"))
    assert (claim.published, claim.ours, claim.agrees) == ("0.26 %", "0.065 %", True)
    plain = counts("resnet50_caffe")[0].giga_multiply_adds
    added = counts("seresnet50_caffe")[0].attention_multiply_adds
    assert round(100 * added / (plain * 10**9), 3) == Decimal("0.065")


def test_counts_are_compared_digit_by_digit(monkeypatch):
    exact = counts("seresnet50_caffe")[0]
    wrong = dataclasses.replace(exact, parameters=exact.parameters + 1)
    monkeypatch.setattr(claims, "counts", lambda: (exact, wrong))
    found = list(check_counts())
    assert [claim.agrees for claim in found] == [True] * 4 + [False] + [True] * 3
    assert found[0].published == found[0].ours == "28,088,024"


def test_a_figure_says_where_it_stands():
    figure = Figure("tpami", "2", "ResNet-50", "multiply_adds", Decimal("3.86"), "G", "resnet50_caffe", image=224)
    (claim,) = check_figures([figure])
    assert (claim.where, claim.row, claim.published, claim.words) == (
        "tpami, table 2",
        "ResNet-50",
        "3.86 G",
        "rounded",
    )
