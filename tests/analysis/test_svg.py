from __future__ import annotations

import re
import sys
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

from senet.analysis.svg import INK, SERIES, Plot, draw, legend, shorten
from senet.errors import InputError

PAGES = ("#fdfcf9", "#15171a")  # the report's backgrounds, light and dark


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("colour", SERIES)
def test_series_read_on_light_and_dark(colour, page):
    low, high = sorted((luminance(colour), luminance(page)))
    assert (high + 0.05) / (low + 0.05) >= 3


def line(axes):
    axes.plot([0, 1], [0, 1], color=SERIES[0], marker="o")
    legend(axes, axes.get_lines(), ['_$a$ <b>&"\' id="x" 猫'])


def test_one_well_formed_element_in_the_pages_colours():
    svg = draw(line, width=200, height=100, title='a <title> & "quotes"')
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert root.get("viewBox") == "0 0 200 100"
    assert root[0].text == 'a <title> & "quotes"'
    assert root.get("aria-labelledby") == root[0].get("id")
    assert "currentColor" in svg
    assert INK not in svg
    assert SERIES[0] in svg
    assert "<style" not in svg
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert '_$a$ <b>&"\' id="x" 猫' in texts


def ids(svg):
    return re.findall(r'<[^>]*\bid="([^"]+)"', svg)


def test_ids_are_the_figures_own_and_all_resolve():
    figures = [draw(line, width=200, height=100, title=title) for title in ("one", "two")]
    assert set(ids(figures[0])).isdisjoint(ids(figures[1]))
    for svg in figures:
        assert len(set(ids(svg))) == len(ids(svg))
        used = re.findall(r'(?:href="#|url\(#)([^")]+)', svg)
        assert used
        assert set(used) <= set(ids(svg))


def test_the_same_data_give_the_same_text():
    assert draw(line, width=200, height=100, title="t") == draw(line, width=200, height=100, title="t")


def test_global_state_is_left_alone():
    before = dict(mpl.rcParams)
    draw(line, width=200, height=100, title="t")
    assert dict(mpl.rcParams) == before


def test_shorten():
    assert shorten("short") == "short"
    assert shorten("a" * 30, 10) == "a" * 9 + "…"
    assert shorten("a\nb\x00c") == "a\ufffdb\ufffdc"


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install 'senet\[plot\]'"):
        draw(line, width=200, height=100, title="t")


@pytest.mark.parametrize(("suffix", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_file_of_its_own_is_the_same_again(suffix, start):
    plot = Plot(line, 200, 100, "title")
    content = plot.file(suffix)
    assert content.startswith(start)
    assert plot.file(suffix) == content


def test_a_file_is_dark_on_white():
    svg = Plot(line, 200, 100, "title").file("svg").decode()
    assert "currentColor" not in svg
    assert INK in svg
    assert "#ffffff" in svg
    assert "a name" not in svg
    key = [("a name", SERIES[2])]
    assert "a name" in Plot(line, 200, 100, "title", key=key).file("svg").decode()
    assert "a name" not in Plot(line, 200, 100, "title", key=key).inline()
