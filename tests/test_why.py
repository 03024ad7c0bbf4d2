"""The page on why SE is built so: it says what was measured, and its pictures show what it says of them."""

import re
import runpy
from pathlib import Path

import pytest
import torch

import senet

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool():
    return runpy.run_path(str(ROOT / "tools" / "why.py"))


@pytest.fixture(scope="module")
def pictures():
    return runpy.run_path(str(ROOT / "tools" / "why_pictures.py"))


@pytest.fixture(scope="module")
def photograph(pictures):
    if runpy.run_path(str(ROOT / "benchmarks" / "textline_data.py"))["PAGE"] is None:
        pytest.skip("scikit-image's files are not installed")
    return pictures["photograph"]()[1]


def test_the_page_says_what_was_measured(tool):
    text = tool["PAGE"].read_text()
    assert text == tool["page"](*tool["newest"]()), "run python tools/why.py"
    assert max(map(len, (line for line in text.splitlines() if line[:1] not in "|!"))) <= 120


def test_the_page_follows_its_numbers(tool):
    """Other results give another page: none of them is written by hand."""
    results, free = tool["newest"]()
    slower = {**free, "train": {**free["train"], "fused": [9.876, 9.8, 9.9]}}
    worse = {
        source: [{**line, "top1": line["top1"] - 9} if "seresnet8" in line["model"] else line for line in lines]
        for source, lines in results.items()
    }
    text = " ".join(tool["page"](worse, slower).split())
    assert "and fused 9.876 times" in text
    assert "SE-ResNet-8 minus ResNet-8 is +10.47" in text


def test_every_picture_is_there_and_shown(tool, pictures):
    shown = set(re.findall(r"\]\(figures/([a-z0-9-]+)\.svg\)", tool["PAGE"].read_text()))
    assert all((pictures["FIGURES"] / f"{name}.svg").is_file() for name in shown)
    kept = {path.stem for path in pictures["FIGURES"].glob("why-*.svg")}
    assert kept == pictures["PICTURES"].keys() == {name for name in shown if name.startswith("why-")}


@pytest.mark.parametrize("name", ["why-cost", "why-stages"])
def test_pictures_of_numbers_are_those_of_the_numbers(pictures, name):
    drawn = pictures["PICTURES"][name]().file("svg")
    assert (pictures["FIGURES"] / f"{name}.svg").read_bytes() == drawn, "run python tools/why.py --pictures"


def test_the_example_runs(tool):
    (example,) = re.findall(r"```python\n(.*?)```", tool["PAGE"].read_text(), re.DOTALL)
    exec(example, {"torch": torch, "block": senet.SqueezeExcite(32), "u": torch.randn(2, 32, 5, 5)})


def test_gates_see_the_whole_image_and_convolutions_their_neighbours(pictures, photograph):
    held, free = (pictures["reach"](photograph, held=held) for held in (True, False))
    far = torch.ones(32, 32, dtype=torch.bool)
    far[8:25, 8:25] = False
    assert (held[far] == 0).all()
    assert held[16, 16] > 0
    assert (free > 0).all()


@pytest.mark.parametrize("name", ["why-steps", "why-sigmoid", "why-mbconv"])
def test_pictures_of_networks_can_be_drawn(pictures, photograph, name):
    assert b"</svg>" in pictures["PICTURES"][name]().file("svg")


def test_averages_gates_and_maps_of_the_photograph_belong_together(pictures, photograph):
    net = pictures["_cat_network"]()
    with torch.no_grad(), pictures["watched"](net, "layer1.1.se") as seen:
        net(photograph)
    torch.testing.assert_close(seen["x"], seen["u"] * seen["s"])
    assert seen["s"].shape == (1, 16, 1, 1)
    assert 0 < seen["s"].min() < 0.45 < 0.55 < seen["s"].max() < 1
