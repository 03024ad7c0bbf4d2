from __future__ import annotations

from xml.etree import ElementTree

import pytest

from senet.analysis.evidence.plots import differences, dynamics
from senet.analysis.svg import INK, SERIES


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("}text")]


def test_differences(table10, results):
    plot = differences(table10(results))
    drawn = texts(plot.inline())
    assert {"plain", "r4", "r16", "r32", "minus plain", "minus r16"} <= set(drawn)
    assert {"top-1 error, %", "difference, points"} <= set(drawn)
    assert plot.file("svg") == plot.file("svg")


def test_what_is_shown_is_filled(table10, results):
    one = differences(table10(results[:6])).file("svg").decode()
    results[3]["top1"] -= 9
    other = differences(table10(results[:6])).file("svg").decode()
    filled = f'style="fill: {SERIES[1]}; stroke: {SERIES[1]}'
    assert one.count(filled) > other.count(filled) > 0  # the legend's is always filled
    assert INK in one


def test_rows_without_runs_are_left_out(table10, results):
    drawn = texts(differences(table10(results[:4])).inline())
    assert {"plain", "r4", "minus plain"} <= set(drawn)
    assert not {"r16", "r32", "minus r16"} & set(drawn)
    assert "minus plain" not in texts(differences(table10(results[:3])).inline())


@pytest.mark.parametrize("epochs", [1, 5])
def test_dynamics(epochs):
    runs = [[{"train_top1": 40.0 + e + s, "val_top1": 50.0 + e} for e in range(epochs)] for s in range(3)]
    svg = dynamics({"plain": runs, "with SE": runs[:1]}, name="SE-ResNet").file("svg").decode()
    assert {"plain", "with SE", "training error, %", "validation error, %"} <= set(texts(svg))
    assert svg.count("stroke-dasharray") >= 2  # the first arm, in both
    assert svg.count('id="FillBetweenPolyCollection') == 4
