from __future__ import annotations

import csv
import io

import pytest

from senet.analysis.arms import Spread, group
from senet.analysis.epochs import epoch_table
from senet.errors import InputError


def arms(*models, seeds=2):
    return group(
        {
            "run": f"{model}-{seed}", "recipe": "demo", "model": model, "parameters": 9, "seed": seed, "epochs": 30,
            "seconds": 1.0, "top1": 90.0, "top5": 99.0, "val_loss": 0.3, "dataset": "d", "train_images": 9,
            "val_images": 9,
        }
        for model in models for seed in range(seeds)
    )  # fmt: skip


def history(epochs, offset=0.0, *, top5=99.0):
    """Losses that fall and accuracies that rise with the epoch, so that no epoch is taken for another."""
    return [
        {
            "epoch": e,
            "train_loss": 3 / e + offset,
            "train_top1": 50.0 + e + offset,
            "val_loss": 4 / e + offset,
            "val_top1": 60.0 + e - offset,
            "val_top5": None if top5 is None else top5 - offset,
        }
        for e in range(1, epochs + 1)
    ]


def both():
    return {f"{model}-{seed}": history(30, seed + 4 * (model == "se")) for model in ("plain", "se") for seed in (0, 1)}


def test_chosen_epochs_of_both_arms():
    rows = epoch_table(arms("plain", "se"), both(), [10, 20, 30]).rows
    assert [(row.epoch, row.arm) for row in rows] == [(e, arm) for e in (10, 20, 30) for arm in ("plain", "se")]
    plain, se = rows[2:4]
    assert plain.numbers["train_loss"] == Spread.of([3 / 20, 3 / 20 + 1])
    assert plain.numbers["train_top1"] == Spread.of([70.0, 71.0])
    assert plain.numbers["val_loss"] == Spread.of([0.2, 1.2])
    assert plain.numbers["top1_error"] == Spread.of([20.0, 21.0])
    assert plain.numbers["top5_error"] == Spread.of([1.0, 2.0])
    assert se.numbers["top1_error"] == Spread.of([24.0, 25.0])


@pytest.mark.parametrize(
    ("epochs", "chosen"), [(1, [1]), (3, [1, 2, 3]), (5, [1, 2, 3, 4, 5]), (30, [1, 8, 15, 23, 30])]
)
def test_where_none_are_asked_for_a_few_are_shown_and_the_last(epochs, chosen):
    found = epoch_table(arms("plain", seeds=1), {"plain-0": history(epochs)})
    assert [row.epoch for row in found.rows] == chosen


def test_an_arm_has_no_row_where_it_was_not_trained_so_long():
    histories = {**both(), "se-1": history(15)}
    found = [(row.epoch, row.arm) for row in epoch_table(arms("plain", "se"), histories, [10, 20]).rows]
    assert found == [(10, "plain"), (10, "se"), (20, "plain")]
    assert not epoch_table(arms("plain"), {})


def test_top5_is_left_out_with_few_classes():
    (row,) = epoch_table(arms("plain", seeds=1), {"plain-0": history(1, top5=None)}).rows
    assert row.numbers["top5_error"] is None


def test_detectors_have_average_precisions():
    run = {
        "run": "a", "recipe": "d", "model": "m", "parameters": 9, "seed": 0, "epochs": 1, "seconds": 1.0, "ap": 30.0,
        "ap50": 50.0, "dataset": "d", "train_images": 9, "val_images": 9,
    }  # fmt: skip
    line = {"epoch": 1, "train_loss": 2.5, "val_ap": 31.0, "val_ap50": 52.0, "val_ap75": 23.0}
    (told,) = epoch_table(group([run]), {"a": [line]}).to_dicts()
    assert [told[name]["mean"] for name in ("train_loss", "ap", "ap50", "ap75")] == [2.5, 31.0, 52.0, 23.0]


@pytest.mark.parametrize(
    ("epochs", "said"),
    [
        ([40], "no network was trained for epoch 40; accepted: 1 to 30"),
        ([0], "no network was trained for epoch 0"),
        ([5, 5], "the epochs are 5, 5; give each once"),
    ],
)
def test_epochs_that_are_none(epochs, said):
    with pytest.raises(InputError, match=said):
        epoch_table(arms("plain", "se"), both(), epochs)


def test_csv():
    table = epoch_table(arms("plain", "se"), both(), [30])
    read = list(csv.DictReader(io.StringIO(table.to_csv())))
    names = [column.name for column in table.columns]
    assert list(read[0]) == ["epoch", "network", "seeds", *(part for name in names for part in (name, f"{name}_sd"))]
    assert [(line["epoch"], line["network"], line["seeds"]) for line in read] == [
        ("30", "plain", "2"),
        ("30", "se", "2"),
    ]
    error = table.rows[1].numbers["top1_error"]
    assert float(read[1]["top1_error"]) == error.mean == 14.5
    assert float(read[1]["top1_error_sd"]) == error.sd
    single = epoch_table(arms('odd, "name"', seeds=1), {'odd, "name"-0': history(1, top5=None)})
    (line,) = csv.DictReader(io.StringIO(single.to_csv()))
    assert (line["network"], line["train_loss_sd"], line["top5_error"]) == ('odd, "name"', "", "")
