from __future__ import annotations

from xml.etree import ElementTree

import pytest
import torch

from senet.analysis.gates import plots
from senet.analysis.gates.statistics import GateStatistics
from senet.analysis.svg import SERIES

CLASSES = [f"class {k}" for k in range(5)]
BOTH = [(0, SERIES[0]), (1, SERIES[1])]


def texts(plot):
    return [element.text for element in ElementTree.fromstring(plot.inline()).iter() if element.tag.endswith("}text")]


def limits(plot):
    """The vertical axis' limits."""
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    plot.paint(axes)
    return axes.get_ylim()


def statistics(classes=5, channels=(16, 64), images=40):
    generator = torch.Generator().manual_seed(0)
    measured = GateStatistics([f"class {k}" for k in range(classes)])
    for i, width in enumerate(channels):
        labels = torch.arange(images) % classes
        measured.update(f"layer{i}.se", torch.rand(images, width, generator=generator), labels)
    return measured


def test_class_gates():
    site = statistics().sites["layer1.se"]
    plot = plots.class_gates(site, CLASSES, [(4, SERIES[0]), (0, SERIES[1])], name="layer1.se")
    svg = plot.inline()
    assert all(colour in svg for colour in SERIES[:2])
    assert SERIES[2] not in svg
    assert {"layer1.se", "channel", "1.0"} <= set(texts(plot))
    assert limits(plot) == pytest.approx((-0.03, 1.03))
    assert "class 4" in plot.file("svg").decode()


def test_class_spreads():
    site = statistics().sites["layer1.se"]
    plot = plots.class_spreads(site, CLASSES, [(0, SERIES[0]), (2, SERIES[2])], name="layer1.se")
    svg = plot.inline()
    assert SERIES[0] in svg
    assert SERIES[1] not in svg
    assert SERIES[2] in svg


@pytest.mark.parametrize("draw", [
    lambda site: plots.class_gates(site, "ab", BOTH, name="se"),
    lambda site: plots.class_spreads(site, "ab", BOTH, name="se"),
])  # fmt: skip
def test_gates_outside_a_sigmoids_range_fit(draw):
    measured = GateStatistics(["a", "b"])
    measured.update("se", torch.tensor([[-1.0, 3.0], [-0.5, 0.5]]), torch.tensor([0, 1]))
    low, high = limits(draw(measured.sites["se"]))
    assert low < -1
    assert high > 3


def test_one_channel_and_a_class_without_images():
    measured = GateStatistics(["a", "b"])
    measured.update("spatial", torch.rand(3, 1), torch.zeros(3, dtype=torch.int64))
    site = measured.sites["spatial"]
    assert "spatial" in texts(plots.class_gates(site, "ab", BOTH, name="spatial"))
    assert "spatial" in texts(plots.class_spreads(site, "ab", BOTH[1:], name="spatial"))


def test_gate_spread():
    plot = plots.gate_spread(statistics().sites)
    assert {"layer0.se", "layer1.se", "between classes", "within classes"} <= set(texts(plot))


def test_gate_spread_where_nothing_moves():
    measured = GateStatistics(["a"])
    measured.update("still", torch.full((3, 4), 0.5), torch.zeros(3, dtype=torch.int64))
    assert "still" in texts(plots.gate_spread(measured.sites))
