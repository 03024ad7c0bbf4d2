from __future__ import annotations

import pytest

from senet.analysis.evidence.compare import compare_table
from senet.cli import show, show_table
from senet.recipes.tables import TABLES


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setattr(show.console, "width", 100)


def lines(arm, errors):
    return [
        {
            "run": f"{arm.label}-{seed}", "recipe": "r", "model": arm.model, "seed": seed, "top1": 100 - error,
            "plain": {"model": {"name": arm.model, "options": arm.options}}, "parameters": 1_234_567, "seconds": 1.0,
            "settings": {f"model.options.{name}": value for name, value in arm.options.items()},
            "top5": None, "val_loss": 1.0, "dataset": "pictures", "train_images": 9, "val_images": 9, "epochs": 2,
        }
        for seed, error in enumerate(errors)
    ]  # fmt: skip


def test_a_table(capsys):
    table = TABLES["14"]
    errors = {"ResNet-8": (12.0, 12.5), "SE": (11.1, 11.4), "SE-PRE": (11.2, 11.6), "SE-POST": (13.3,)}
    results = [line for arm in table.small for line in lines(arm, errors.get(arm.label, ()))]
    compared = compare_table(results, table.small, table.baseline, number="14", seeds=range(2))
    show_table.print_table(compared)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 100
    rows = [row.split() for row in printed.splitlines()]
    assert ["SE", "1,234,567", "2", "11.25", "±", "0.21", "22.28"] in rows
    assert ["SE-POST", "1,234,567", "1", "13.30", "22.78", "1", "of", "2", "seeds"] in rows
    assert ["SE-Identity", "0", "–", "22.20", "not", "run"] in rows
    assert [
        "SE-PRE",
        "minus",
        "SE",
        "+0.15",
        "[−0.49,",
        "+0.79]",
        "0.2",
        "0.5",
        "other",
        "sign,",
        "not",
        "shown",
    ] in rows
    words = " ".join(printed.split())
    assert "with 2 seeds it is never below 0.5" in words
    assert "3 differences are tested at 95 % each" in words


def test_nothing_run(capsys):
    table = TABLES["10"]
    show_table.print_table(compare_table([], table.small, table.baseline, number="10", seeds=range(5)))
    printed = capsys.readouterr().out
    assert "Not run." in printed
    assert printed.count("not run") == 6
    assert "minus" not in printed
