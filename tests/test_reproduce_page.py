"""The page of the small trainings says and draws what senet/evidence holds."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(ROOT / "tools" / "reproduce.py"))


def test_the_page_says_what_was_measured(tool):
    assert tool["PAGE"].read_text() == tool["page"](tool["newest"]()), "run python tools/reproduce.py"


def test_the_figures_draw_what_was_measured(tool):
    drawn = tool["figures"](tool["newest"]())
    kept = {path.stem: path.read_bytes() for path in tool["FIGURES"].glob("reproduce-*.svg")}
    assert kept == drawn, "run python tools/reproduce.py"


def test_every_run_is_listed(tool):
    """Once for each set of images, whatever came of it."""
    for source, lines in tool["newest"]().items():
        text = tool["PAGE"].read_text().split(f"\n## {source}\n")[1].split("### All runs\n")[1].split("\n## ")[0]
        listed = re.findall(r"(?<=\| )\d+\.\d\d(?= \|)", text)
        assert sorted(listed) == sorted(f"{100 - line['top1']:.2f}" for line in lines)
