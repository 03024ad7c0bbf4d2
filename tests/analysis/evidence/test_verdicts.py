from __future__ import annotations

from dataclasses import replace

import pytest

from senet.analysis.evidence import verdicts


def test_verdict(table10, results):
    compared = table10(results)
    assert verdicts.tally(compared) == (2, 0, 3)
    assert verdicts.verdict(compared) == (
        "The paper has less error than ResNet-50 in 3 of 3 rows, than r = 16 in 1 of 2 rows; 5 differences here: "
        "2 in agreement, 0 in contradiction, 3 open (3 with the paper's sign, 0 with the other)."
    )
    assert verdicts.about(compared) == "Trained on 9,000 images of pictures for 2 epochs."
    assert verdicts.order(compared) == (
        "Pairs of rows in the paper's order, by the mean errors over the seeds of both: 6 of 6."
    )


def test_a_contradiction_is_said(table10, results):
    for line in results[3:6]:
        line["top1"] -= 10
    compared = table10(results)
    assert verdicts.tally(compared) == (1, 2, 2)
    assert "1 in agreement, 2 in contradiction, 2 open" in verdicts.verdict(compared)


def test_nothing_run(table10):
    compared = table10([])
    assert verdicts.verdict(compared).endswith("; here is nothing to hold against it.")
    assert verdicts.about(compared) == "Not run."
    assert verdicts.order(compared) == verdicts.exact_note(compared.contrasts) == ""
    assert verdicts.interval(compared.rows[1].plain) == "–"


def test_nothing_published(table10, results):
    compared = table10(results, [replace(row.entry, row="") for row in table10([]).rows], number="text: ILSVRC")
    assert verdicts.verdict(compared) == "The paper gives no errors of rows to compare."
    assert verdicts.contrast_cells(compared.contrasts[0])[-1] == "shown"


@pytest.mark.parametrize(("edition", "metric"), [("tpami", "top-5"), ("cvpr", "top-1")])
def test_a_bound_is_said_not_to_be_tested(table10, edition, metric):
    compared = table10([], [], number="text: overhead", edition=edition)
    assert verdicts.verdict(compared) == (
        f"The paper gives a bound of 0.1 points on the cost in {metric} error, not tested here."
    )


def test_cells(table10, results):
    compared = table10(results)
    r4, _, r32 = (verdicts.contrast_cells(row.plain) for row in compared.rows[1:])
    assert r4 == ("r4 minus plain", "−1.90 [−2.15, −1.65]", "< 0.001", "0.25", "same sign, shown")
    assert r32[2:] == ("0.42", "0.5", "same sign, not shown")
    assert verdicts.exact_note(compared.contrasts).endswith("with 3 seeds it is never below 0.25.")
    one = table10([results[0], results[3]]).contrasts[0]
    assert verdicts.contrast_cells(one) == ("r4 minus plain", "−2.00", "", "", "same sign, not shown")


def test_many_differences_are_adjusted_for(table10, results):
    compared = table10(results)
    r4, r16 = (row.plain.paired.p for row in compared.rows[1:3])
    assert r16 < r4 < min(c.paired.p for c in compared.contrasts if c.paired.p not in (r4, r16))
    assert verdicts.many(compared) == (
        "5 differences are tested at 95 % each: the more there are, the more likely one is chance. Adjusted for all of "
        f"them (Holm), p is below 0.05 for 2 of 5: r4 minus plain, p = {4 * r4:.2g}; "
        f"r16 minus plain, p = {5 * r16:.2g}."
    )
    assert verdicts.many(table10(results[:6])) == ""  # one alone


def test_a_difference_is_tested_once_and_adjusted_for_all(table10, results):
    compared = table10(results)
    both = verdicts.tested([compared, compared, table10([])])
    assert len(both) == len(compared.contrasts) == 5
    assert {dataset for dataset, _, _ in both} == {"pictures"}
    smallest = min(contrast.paired.p for contrast, _ in both.values())
    assert min(p for _, p in both.values()) == pytest.approx(5 * smallest)
    for line in results:
        line["dataset"] = "others"
    assert len(verdicts.tested([compared, table10(results)])) == 10
