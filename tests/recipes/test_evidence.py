"""The results that the package holds, and the page about them."""

import re
import runpy
from collections import Counter
from pathlib import Path

import pytest

from senet.analysis.evidence.compared import network
from senet.analysis.evidence.verdicts import tally
from senet.options import to_plain
from senet.recipes.evidence import SEEDS, evidence, evidence_of, lines_of
from senet.recipes.tables import TABLES
from senet.study.ledger import Ledger


def test_every_arm_was_trained_with_every_seed():
    assert set(evidence()) == {"cifar10", "fashion-mnist"}
    for source in evidence():
        for table in TABLES.values():
            for label, lines in lines_of(table, source).items():
                done = list(SEEDS) if table.title == "" or lines else []  # of ours, an arm may wait to be run
                assert sorted(line["seed"] for line in lines) == done, label


def test_every_result_is_of_a_table():
    for source, ledger in evidence().items():
        arms = [lines for table in TABLES.values() for lines in lines_of(table, source).values()]
        assert {line["run"] for line in ledger.lines} == {line["run"] for lines in arms for line in lines}


def test_no_result_is_there_twice():
    for ledger in evidence().values():
        cells = Counter(
            (network(line["model"], line["plain"]["model"]["options"]), line["seed"]) for line in ledger.lines
        )
        assert {cell: n for cell, n in cells.items() if n > 1} == {}
        assert len({line["run"] for line in ledger.lines}) == len(ledger.lines)


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
    for (source, path), counts in evidence_of(TABLES["10"]).items():
        assert path == evidence()[source].path
        assert list(counts) == [arm.label for arm in TABLES["10"].small]
        assert max(counts.values()) <= len(SEEDS)
    assert evidence_of(TABLES["7"]) == {}


def test_results_of_ones_own_are_counted_at_both_scales(tmp_path):
    table = TABLES["10"]
    own = Ledger(tmp_path / "results.jsonl")
    arms = {scale: table.trainings(scale, "folder")[0] for scale in ("small", "paper")}
    for _, recipe in arms.values():
        own.add({"plain": to_plain(recipe.override({"run.seed": 3})), "images": {}})
    found = {source: counts for (source, path), counts in evidence_of(table, own).items() if path == own.path}
    assert found.keys() == {"folder", "the paper's"}
    for source, scale in (("folder", "small"), ("the paper's", "paper")):
        assert {label: n for label, n in found[source].items() if n} == {arms[scale][0].label: 1}


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(Path(__file__).parents[2] / "tools" / "reproduce.py"))


def test_the_page_says_what_was_measured(tool):
    assert tool["PAGE"].read_text() == tool["page"](tool["newest"]()), "run python tools/reproduce.py"


def test_tables_of_one_section_come_to_the_same(tool):
    """So that their differences are counted once."""
    for lines in tool["newest"]().values():
        found = tool["sections"](lines)
        assert ["2", "4", "5"] in [[compared.number for compared in section] for section in found]
        assert all(tally(compared) == tally(section[0]) for section in found for compared in section)


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
