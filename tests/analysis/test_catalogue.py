from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from senet.analysis.catalogue import catalogue, published
from senet.models import list_models


def test_a_row_says_what_a_network_costs_and_where_it_stands():
    told = []
    (row,) = catalogue(["seresnet50_caffe"], progress=lambda done, total: told.append((done, total)))
    assert (row.parameters, row.multiply_adds, row.size, row.attn) == (28_088_024, 3_860_488_192, 224, "se")
    assert (row.error, row.error_source) == (23.29, "tpami, table 2")
    assert row.weights == ("in1k",)
    assert "release" in row.source
    assert told == [(1, 1)]


def test_an_image_need_not_be_square():
    (row,) = catalogue(["paddle_textline_cls"])
    assert (row.px, row.multiply_adds) == ("48x192", 16_315_376)
    assert catalogue(["seresnet18"])[0].px == "224"


@pytest.mark.parametrize(
    ("name", "error"),
    [("resnet50_caffe", 24.80), ("senet154_caffe", 18.68), ("cifar_sewrn16_8", 3.88), ("seresnet50", None)],
)
def test_the_papers_own_error_comes_first_and_a_variants_is_not_borrowed(name, error):
    assert catalogue([name])[0].error == error


def test_every_network_has_a_row_and_the_page_shows_them():
    rows, names = catalogue(list_models()), list_models()
    assert [row.name for row in rows] == names
    tool = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "networks.py"))
    assert tool["PAGE"].read_text() == tool["page"](rows), "run python tools/networks.py"


def test_sizes_are_explained_by_rule():
    rows = {row.where: row for row in published("seresnet50_caffe", {})}
    figure, ours, rule = rows["tpami, table 2"].sizes[0]
    assert (figure.metric, str(figure.value), ours) == ("multiply_adds", "3.87", 3_860_488_192)
    assert rule == "the published figure is that of a count that counts the squeezes' elements too"
    assert rows["release, table models"].sizes == ()
    assert "tpami, table 1" not in rows


def test_options_choose_the_row():
    options = {"attn_options": {"bias": False, "reduction": 8}}
    (row,) = [row for row in published("seresnet50_caffe", options) if row.where == "tpami, table 10"]
    assert {(f.metric, str(f.value)) for f in row.figures} >= {("top1_error", "22.26"), ("parameters", "30.7")}
    for _, _, rule in row.sizes:
        assert rule == "the table counts the norms' running statistics and a bias for each gate too"
    assert published("seresnet50_caffe", {"attn": "eca"}) == []


def test_options_are_compared_by_what_they_mean():
    assert len(published("seresnet50_caffe", {"placement": "standard"})) == len(published("seresnet50_caffe", {}))
    assert catalogue(["cifar_shake29_2x4x64d"])[0].error == 15.85
