"""The results that the package holds, and the page about them."""

import re
import runpy
from pathlib import Path

import pytest

from senet.recipes.evidence import SEEDS, evidence, evidence_of, lines_of
from senet.recipes.tables import TABLES

ARMS = {arm.label + table.number: (table, arm) for table in TABLES.values() for arm in table.small}


def test_every_result_is_of_a_table(monkeypatch):
    assert evidence()
    for source, ledger in evidence().items():
        known = {line["run"] for table, arm in ARMS.values() for line in lines_of(table, arm, source)}
        assert {line["run"] for line in ledger.lines} == known


def test_results_are_complete_and_say_nothing_of_the_machine():
    for ledger in evidence().values():
        for line in ledger.lines:
            assert len(line["history"]) == line["epochs"]
            assert line["seed"] in SEEDS
            assert line["plain"]["data"]["root"] is None
            assert "/" not in line["dataset"]
            assert line["commit"]
            assert "dirty" not in line["commit"]
            assert line["history"][-1]["val_top1"] == line["top1"]


def test_tables_count_their_results():
    for path, counts in evidence_of(TABLES["10"]).items():
        assert path.is_file()
        assert list(counts) == [arm.label for arm in TABLES["10"].small]
        assert max(counts.values()) <= len(SEEDS)
    assert evidence_of(TABLES["7"]) == {}


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(Path(__file__).parents[2] / "tools" / "reproduce.py"))


def test_the_page_says_what_was_measured(tool):
    assert tool["PAGE"].read_text() == tool["page"](tool["newest"]()), "run python tools/reproduce.py"


def test_every_figure_of_the_page_is_drawn(tool):
    kept = {path.stem for path in tool["FIGURES"].glob("reproduce-*.svg")}
    assert kept == tool["figures"](tool["newest"]()).keys(), "run python tools/reproduce.py"
    assert kept == set(re.findall(r"figures/(reproduce-[a-z0-9-]+)\.svg", tool["PAGE"].read_text()))


def test_every_run_is_listed(tool):
    """Once for each set of images, whatever came of it."""
    for source, lines in tool["newest"]().items():
        text = tool["PAGE"].read_text().split(f"\n## {source}\n")[1].split("### All runs\n")[1].split("\n## ")[0]
        listed = re.findall(r"(?<=\| )\d+\.\d\d(?= \|)", text)
        assert sorted(listed) == sorted(f"{100 - line['top1']:.2f}" for line in lines)
