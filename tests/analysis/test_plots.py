from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
import torch

from senet.analysis import plots
from senet.analysis.compare import compare
from senet.analysis.svg import SERIES

NAMES = ["_T-shirt $x$", "<b>bag</b>", "猫", "a\nb", "x" * 200]


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("}text")]


def arms(*names, seeds=3):
    return compare(
        {
            "run": f"{name}-{seed}", "recipe": "r", "model": name, "parameters": 10, "seed": seed, "epochs": 2,
            "seconds": 1.0, "top1": 90.0 + seed / 10 + i, "top5": None, "val_loss": 0.3, "dataset": "d",
            "train_images": 9, "val_images": 1,
        }
        for i, name in enumerate(names) for seed in range(seeds)
    ).arms  # fmt: skip


def test_sampled():
    assert plots.sampled(3, 5) == [0, 1, 2]
    assert plots.sampled(10, 5) == [0, 2, 4, 7, 9]
    channels = plots.sampled(512, 50)
    assert (len(set(channels)), channels[0], channels[-1]) == (50, 0, 511)


def test_curves_draw_a_line_a_seed_and_a_mean_an_arm():
    svg = plots.curves({"plain": [[3.0, 2.0], [3.5, 2.5]], "se": [[3.0, 1.0, 0.5]]}, what="loss")
    assert svg.count(f"stroke: {SERIES[0]}; stroke-opacity: 0.35") == 2
    assert svg.count(f"stroke: {SERIES[1]}; stroke-opacity: 0.35") == 1
    assert {"plain", "se", "loss", "epoch", "1", "2", "3"} <= set(texts(svg))


def test_curves_of_one_epoch_and_of_a_loss_that_diverged():
    assert "1" in texts(plots.curves({"plain": [[3.0]]}, what="loss"))
    assert "loss" in texts(plots.curves({"plain": [[3.0, math.nan]]}, what="loss"))


def test_an_arm_without_runs_keeps_its_colour():
    svg = plots.curves({"plain": [], "se": [[3.0, 1.0]]}, what="loss")
    assert SERIES[0] not in svg
    assert SERIES[1] in svg
    assert "plain" not in texts(svg)


def test_accuracies():
    svg = plots.accuracies(arms("plain", "se"))
    assert {"plain", "se", "top-1 accuracy, %"} <= set(texts(svg))
    # dots: one a run
    assert [svg.count(f'style="fill: {colour}; fill-opacity: 0.75; stroke') for colour in SERIES[:2]] == [3, 3]
    assert "plain" in texts(plots.accuracies(arms("plain", seeds=1)))


def test_confusion_numbers_are_percent_of_the_row():
    matrix = torch.tensor([[8, 2, 0], [0, 0, 0], [1, 1, 998]])
    shown = texts(plots.confusion(matrix, ["a", "b", "c"], title="plain"))
    assert sorted(text for text in shown if text.isdigit()) == ["100", "20", "80"]
    assert [shown.count(name) for name in "abc"] == [2, 2, 2]


@pytest.mark.parametrize("classes", [2, 20, 200])
def test_confusion_of_few_and_of_many_classes(classes):
    svg = plots.confusion(torch.eye(classes) * 7, [f"class {k}" for k in range(classes)], title="plain")
    assert ("100" in texts(svg)) == (classes <= 20)
    assert {"class 0", f"class {classes - 1}"} <= set(texts(svg))


def test_any_class_name():
    shown = texts(plots.confusion(torch.eye(5), NAMES, title="$t$"))
    assert {"_T-shirt $x$", "<b>bag</b>", "猫", "a\ufffdb", "x" * 13 + "…", "$t$"} <= set(shown)


def test_lines_over_a_range_are_those_of_the_arms_that_have_any():
    svg = plots.over_range({"plain": [], "se": [50.0, 20.0]}, [0.5, 0.75], what="AP, %", along="IoU")
    assert {"se", "AP, %", "IoU"} <= set(texts(svg))
    assert "plain" not in texts(svg)
