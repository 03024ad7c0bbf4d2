from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace

import pytest

from senet.analysis.evidence.compare import compare_table
from senet.analysis.evidence.verdicts import order, verdict
from senet.errors import InputError
from senet.recipes.tables import TABLES


def arm(label, model, row="", **options):
    return SimpleNamespace(label=label, model=model, options=options, row=row)


def line(model, seed, error, options=None, **changes):
    return {
        "run": f"{model}{options}-{seed}", "recipe": "r", "model": model, "seed": seed, "top1": 100 - error,
        "plain": {"model": {"name": model, "options": options or {}}}, "parameters": 9, "seconds": 1.0, "top5": None,
        "epochs": 2, "val_loss": 1.0, "dataset": "pictures", "train_images": 9, "val_images": 9, **changes,
    }  # fmt: skip


def test_rows_beside_the_papers(table10, results):
    compared = table10(results)
    assert compared.dataset == "pictures"
    assert compared.title == "Reduction ratio"
    plain, r4, r16, _ = compared.rows
    assert [row.published for row in (plain, r4, r16)] == [Decimal("23.30"), Decimal("22.25"), Decimal("22.28")]
    assert r4.errors == pytest.approx({0: 28.0, 1: 29.1, 2: 30.2})
    assert r4.error.mean == pytest.approx(29.1)
    assert (plain.plain, plain.standard, r16.standard) == (None, None, None)
    assert r4.plain.paired.points == pytest.approx((-2.0, -1.9, -1.8))
    assert r4.plain.published == (Decimal("-1.05"),)
    assert r4.standard.reference.label == "r16"
    assert r4.standard.published == (Decimal("-0.03"),)
    assert not any(row.missing for row in compared.rows)


def test_what_is_missing_is_said(table10, results):
    compared = table10(results[:4])
    assert [row.missing for row in compared.rows] == ["", "1 of 3 seeds", "not run", "not run"]
    assert compared.rows[2].error is None
    assert compared.rows[2].plain.paired.spread is None
    assert [c.entry.label for c in compared.contrasts] == ["r4"]
    assert table10([]).dataset is None


def test_runs_of_other_networks_are_left_out(table10, results):
    other = line("cifar_seresnet8", 0, 1.0, {"attn_options": {"reduction": 2}})
    assert table10([other, *results]) == table10(results)


def test_other_networks_than_the_tables_are_held_against_all_its_pairs():
    arms = [arm(f"{se}ResNet-8", f"cifar_{se and 'se'}resnet8") for se in ("", "SE-")]
    results = [line(each.model, seed, 30 - seed) for each in arms for seed in (0, 1)]
    compared = compare_table(
        results, arms, lambda each: None if each is arms[0] else arms[0], number="6", seeds=range(2)
    )
    assert compared.rows[1].plain.published == (Decimal("-0.78"),)
    assert compared.rows[1].published is None
    assert compared.rows[1].standard is None
    four = compare_table([], arms, lambda each: None if each is arms[0] else arms[0], number="4", seeds=())
    assert sorted(four.rows[1].plain.published) == [Decimal(x) for x in ("-1.16", "-1.07", "-0.44", "-0.39")]


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_every_table_finds_its_plain_network_and_the_papers_block(scale):
    """The one with blocks and no other change, whose published error is the same in all ablations."""
    standards = {}
    for number in ("10", "11", "12", "13", "14", "15", "16"):
        table = TABLES[number]
        arms = [each for each, _ in table.trainings(scale)]
        for row in compare_table([], arms, table.baseline, number=number, seeds=()).rows:
            if row.standard:
                standards[number] = row.standard.reference.row
                assert row.standard.published
    assert standards == {
        "10": "r = 16", "11": "Avg", "12": "Sigmoid", "13": "SE_All", "14": "SE", "15": "SE", "16": "SE",
    }  # fmt: skip


def test_training_must_be_alike_where_it_is_compared(table10, results):
    results[3]["settings"]["optim.lr"] = 0.2
    with pytest.raises(InputError, match=r"^runs 'r4-seed0' and 'r4-seed1' differ in optim.lr; compare"):
        table10(results)
    for other in results[3:6]:
        other["settings"]["optim.lr"] = 0.2
    with pytest.raises(InputError, match=r"'plain-seed0' and 'r4-seed0' differ in optim.lr"):
        table10(results)
    assert table10(results[3:6]).rows[1].error.n == 3  # nothing to compare them with


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number": "99"}, "tpami has no table '99'"),
        ({"edition": "CVPR"}, "CVPR has no table '10'"),
        ({"arms": [arm("x", "resnet18", "r = 3")]}, "table 10 of tpami has no row 'r = 3'; it has ResNet-50, r = 16"),
    ],
)
def test_refused(table10, changes, message):
    with pytest.raises(InputError, match=message):
        table10([], **changes)


def test_a_comparison_of_ours_has_nothing_published_beside_it():
    table = TABLES["structures"]
    results = [
        line(each.model, seed, error + seed, dict(each.options), settings={"model.options": str(each.options)})
        for each, error in zip(table.small, (40, 39, 41, 38, 42), strict=True)
        for seed in (0, 1)
    ]
    compared = compare_table(
        results, table.small, table.baseline, number="structures", seeds=range(2), title=table.title
    )
    assert (compared.edition, compared.title) == ("ours", table.title)
    assert [row.published for row in compared.rows] == [None] * 5
    assert [row.standard and row.standard.reference.label for row in compared.rows] == [None, None, "SE", "SE", "SE"]
    assert [round(row.standard.paired.spread.mean) for row in compared.rows[2:]] == [2, -1, 3]
    assert verdict(compared) == "The paper has no such table."
    assert order(compared) == ""
    with pytest.raises(InputError, match="ours has no row 'r = 3'"):
        compare_table([], [arm("x", "resnet18", "r = 3")], table.baseline, number="structures", seeds=(), title="x")
