from __future__ import annotations

from xml.etree import ElementTree

import pytest
import torch
from matplotlib.figure import Figure

from senet.analysis.gates.statistics import GateStatistics
from senet.analysis.lab import plots
from senet.analysis.lab.images import Portrait
from senet.analysis.lab.leave_out import ALL, Change, Effect, LeaveOneOut
from senet.analysis.lab.statistics import Spectrum


def texts(plot):
    return [element.text for element in ElementTree.fromstring(plot.inline()).iter() if element.tag.endswith("}text")]


def painted(plot):
    axes = Figure().subplots()
    plot.paint(axes)
    return axes


def test_losses_are_drawn_where_they_are_with_two_standard_errors():
    changes = [Change(100, 1, 9), Change(100, 0, 40), Change(100, 3, 3)]
    by_how = list(zip(("mean", "one", "shuffled"), changes, strict=True))
    effects = [Effect(site, how, change, None) for site in ("a", "b", ALL) for how, change in by_how]
    plot = plots.losses(LeaveOneOut(100, 80.0, None, tuple(effects)))
    bars = painted(plot).containers
    assert [bar[0].get_xdata().tolist() for bar in bars] == [[-8, -8], [-40, -40], [0, 0]]
    low, high = bars[0][2][0].get_segments()[0][:, 0]
    assert (low, high) == pytest.approx((-8 - 2 * changes[0].error, -8 + 2 * changes[0].error))
    assert {"a", "b", "gates at 1", "change of top-1, points"} <= set(texts(plot))
    assert ALL not in texts(plot)  # its loss would dwarf the others


def test_ranks():
    statistics = GateStatistics(["a"])
    statistics.update("se", torch.rand(3, 16), torch.zeros(3, dtype=torch.int64))
    plot = plots.ranks({"se": Spectrum(3.5, 2.5)}, statistics.sites)
    assert [line.get_xdata()[0] for line in painted(plot).lines] == [3.5, 2.5, 16]
    assert {"effective rank", "se", "16"} <= set(texts(plot))


def test_similarities():
    matrix = torch.tensor([[1.0, -0.04, torch.nan], [-0.04, 1.0, -0.6], [torch.nan, -0.6, 1.0]], dtype=torch.float64)
    shown = texts(plots.similarities(matrix, ["a", "b", "c"], name="se"))
    assert sorted(text for text in shown if "." in text) == ["0.0", "0.0", "1.0", "1.0", "1.0", "−0.6", "−0.6"]
    many = plots.similarities(torch.eye(30), [f"class {k}" for k in range(30)], name="se")
    assert texts(many) == ["se"]


def test_strips_are_ordered_from_opened_to_shut():
    values = torch.zeros(40, dtype=torch.float64)
    values[[3, 7, 11]] = torch.tensor([0.2, -0.4, 0.1], dtype=torch.float64)
    portrait = Portrait(None, "a", "b", {"wide": values, "one": torch.tensor([-0.4], dtype=torch.float64)}, {})
    cells = painted(plots.strips(portrait, ["wide", "one"], most=0.4)).images[0].get_array()
    assert cells.shape == (2, plots.STRIP, 4)
    assert cells[0, :2, 3].tolist() == pytest.approx([0.5, 0.25])
    assert cells[0, -1, 3] == pytest.approx(1)
    assert cells[0, 0, 2] > cells[0, 0, 0]  # blue
    assert cells[0, -1, 2] < cells[0, -1, 0]  # orange
    assert cells[1, :, 3].tolist() == pytest.approx([1] + [0] * 15)


def test_a_strip_of_gates_that_never_move():
    portrait = Portrait(None, "a", "b", {"se": torch.zeros(20, dtype=torch.float64)}, {})
    assert "se" in texts(plots.strips(portrait, ["se"], most=0.0))


@pytest.mark.parametrize(("low", "high", "expected"), [(0.2, 0.9, (0.2, 0.9)), (-1.0, 3.0, (0.0, 1.0))])
def test_maps_show_a_sigmoids_range_or_more(low, high, expected):
    plane = torch.full((3, 4), low)
    plane[1, 2] = high
    cells = painted(plots.gate_map(plane, name="se")).images[0].get_array()
    assert (cells[0, 0, 3], cells[1, 2, 3]) == pytest.approx(expected)
