"""The tables as trainings: rows that were published, networks that can be built, one change a row."""

import json

import pytest
import torch

from senet.errors import InputError
from senet.options import flatten, to_plain
from senet.published import figures, tables
from senet.recipes import get_recipe
from senet.recipes.small import SOURCES
from senet.recipes.tables import TABLES, get_table
from senet.train.rundir import build_model

SMALL = [number for number, table in TABLES.items() if table.small]
PAPER = [number for number, table in TABLES.items() if table.paper]


def test_every_numbered_table_is_there():
    assert {str(number) for number in range(1, 17)} <= TABLES.keys()
    assert {("tpami", number) for number, table in TABLES.items() if not table.title} <= tables().keys()
    assert [number for number, table in TABLES.items() if table.title] == ["structures"]
    assert all(table.why_not for table in TABLES.values() if not (table.paper and table.small))


@pytest.mark.parametrize("number", SMALL)
def test_small_arms_differ_in_the_network_alone(number):
    table = TABLES[number]
    trainings = table.trainings("small")
    plain = [flatten(to_plain(recipe)) for _, recipe in trainings]
    differing = {key for one in plain for key in one if any(one.get(key) != other.get(key) for other in plain)}
    assert all(key == "name" or key.startswith("model.") for key in differing)
    assert len({json.dumps([arm.model, to_plain(arm.options)]) for arm, _ in trainings}) == len(trainings)
    rows = set() if table.title else {figure.row for figure in figures(edition="tpami", table=number)}
    assert {arm.row for arm in table.small} <= {"", *rows}
    with torch.device("meta"):
        for arm, recipe in trainings:
            build_model(recipe.model, 3, 10)
            baseline = table.baseline(arm)
            assert (baseline is None) == ("se" not in arm.model)


@pytest.mark.parametrize("number", PAPER)
def test_rows_at_the_papers_scale_are_its_networks(number):
    for arm, recipe in TABLES[number].trainings("paper"):
        (figure, *_) = (f for f in figures(edition="tpami", table=number) if f.row == arm.row)
        assert recipe.model.name == figure.model
        options = {key: value for key, value in figure.options.items() if key != "num_classes"}
        assert flatten(options).items() <= flatten(to_plain(recipe.model.options)).items()
        base = get_recipe(recipe.name)
        assert recipe == base.override({"model": to_plain(recipe.model)})


def test_every_arm_has_its_plain_network():
    assert TABLES["2"].baseline(TABLES["2"].small[3]).label == "ResNet-14"
    assert TABLES["10"].baseline(TABLES["10"].small[2]).label == "ResNet-8"
    paper = {arm.label: arm for arm, _ in TABLES["2"].trainings("paper")}
    assert TABLES["2"].baseline(paper["SE-VGG-16"]).label == "VGG-16"
    assert TABLES["11"].baseline(TABLES["11"].trainings("paper")[0][0]) is None  # Table 11 has no plain row


def test_structures_that_are_none_are_trained_beside_se():
    """One change each from SE, and none of them published at any scale."""
    table = get_table("structures")
    trained = {arm.label: recipe.model for arm, recipe in table.trainings("small")}
    assert {label: dict(model.options) for label, model in trained.items()} == {
        "ResNet-8": {},
        "SE": {},
        "scale without layers": {"attn": "ge"},
        "convolution for squeeze": {"attn_options": {"squeeze": "conv"}},
        "gate of the input": {"placement": "parallel"},
    }
    assert {table.baseline(arm).label for arm in table.small[1:]} == {"ResNet-8"}
    with pytest.raises(InputError, match="nobody published these structures; train them small"):
        table.trainings("paper")


@pytest.mark.parametrize("source", SOURCES)
def test_small_comparisons_are_made_on_any_source(source):
    assert {recipe.data.source for _, recipe in TABLES["13"].trainings("small", source)} == {source}


def test_what_cannot_be_trained_says_why():
    with pytest.raises(InputError, match="Table 7 is of detectors"):
        TABLES["7"].trainings("small")
    with pytest.raises(InputError, match="no table '17' can be trained"):
        get_table("17")
