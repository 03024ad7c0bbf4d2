from __future__ import annotations

import sys

import pytest

from senet.analysis.tax.arms import Setting
from senet.analysis.tax.counts import Extra, Site
from senet.analysis.tax.plot import check_plot, plot_tax
from senet.analysis.tax.tax import Network, Price, Tax
from senet.errors import InputError
from senet.measure import Ratio


def network(way, *, gated, moved, kept):
    return Network(way, gated, (1.0, 1.2), 10, 5, moved, kept, None, (Extra(3, 10, 100, 9, kept),) if moved else ())


@pytest.fixture
def found():
    networks = [
        network(way, gated=gated, moved=None if way == "compile" else 100 + 10 * gated, kept=50 + gated)
        for way in ("eager", "compile", "fused")
        for gated in (True, False)
    ]
    prices = [
        Price(way, twin, Ratio(1.2, 1.1, 1.3), (1.15, 1.25))
        for way, twin in (("eager", "eager"), ("compile", "compile"), ("fused", "eager"))
    ]
    control = (Price("fused", "fused", Ratio(1.0, 0.9, 1.1), (0.95, 1.05)),)
    sites = (Site("se", (8, 4, 4), 256),)
    return Tax(Setting(batch=2), "a machine", "2.99", 1, sites, tuple(networks), tuple(prices), control, (), ())


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_name_says_how(found, tmp_path, suffix, start):
    file = tmp_path / f"tax.{suffix}"
    plot_tax("a $network", found, file)
    assert file.read_bytes().startswith(start)


def test_a_picture_is_the_same_again(found, tmp_path):
    for name in ("a.svg", "b.svg"):
        plot_tax("network", found, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_names_that_are_no_pictures(tmp_path):
    with pytest.raises(
        InputError, match=r"tax\.gif is no picture's name; accepted: names that end in .png, .svg, .pdf"
    ):
        check_plot(tmp_path / "tax.gif")


def test_without_matplotlib_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"plots need matplotlib; pip install 'senet\[plot\]'"):
        check_plot(tmp_path / "tax.png")
