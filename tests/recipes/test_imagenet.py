from __future__ import annotations

import inspect
import re
import shlex

import pytest

from senet import create_model, published
from senet.models.weights.caffe import PREPROCESSING
from senet.options import parse_assignments
from senet.recipes import RECIPES, get_recipe
from senet.train.schedule import lr_factor

GROUP = [name for name in RECIPES if name.startswith("imagenet.")]
ROWS = re.findall(r"Table (\d+), (.+): --set (.+)", inspect.getdoc(RECIPES["imagenet.seresnet50_ablation"]))


def rates(name, epochs, val_losses=()):
    """The learning rate at the start of epochs, counted from 0."""
    recipe = get_recipe(name)
    schedule = recipe.schedule
    return [recipe.optim.lr * lr_factor(schedule, epoch / schedule.epochs, val_losses[:epoch]) for epoch in epochs]


@pytest.mark.parametrize("name", GROUP)
def test_images_are_seen_as_the_released_weights_see_them(name):
    data = get_recipe(name).data
    assert (data.mean, data.std) == (PREPROCESSING.mean, PREPROCESSING.std)
    assert (data.size, data.resize, data.squash) == {
        "imagenet.inception_resnet_v2": (299, 352, False),
        "imagenet.seinception_resnet_v2": (299, 352, False),
        "imagenet.senet154_320": (320, 366, False),
    }.get(name, (224, 256, False))


@pytest.mark.parametrize("name", GROUP)
def test_norms_see_32_images(name):
    recipe = get_recipe(name)
    assert recipe.data.batch_size == 32 * recipe.run.accumulate


def test_table_2_has_a_tenth_of_the_rate_every_30_of_100_epochs():
    assert rates("imagenet.seresnet50", (0, 29, 30, 59, 60, 89, 90, 99)) == pytest.approx(
        [0.6, 0.6, 0.06, 0.06, 0.006, 0.006, 0.0006, 0.0006]
    )


def test_footnote_2_has_a_tenth_of_the_rate_after_125_200_and_250_of_270_epochs():
    assert rates("imagenet.seresnet50_ablation270", (0, 124, 125, 199, 200, 249, 250, 269)) == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4]
    )


@pytest.mark.parametrize("name", ["imagenet.seresnet50_ablation", "imagenet.seresnet50_release", "imagenet.shufflenet"])
def test_a_plateau_takes_a_tenth_of_the_rate(name):
    """The loss falls for 30 epochs, then stays: the drop comes when it was no better for more than 20."""
    losses = [1 / epoch for epoch in range(1, 31)] + [0.5] * 70
    assert rates(name, (0, 30, 50, 51, 52, 72), losses) == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01, 0.001])


def test_the_rows_of_the_ablations_are_all_there():
    """Every row of Tables 10 to 16 but the two that are recipes themselves."""
    wanted = set()
    for table in range(10, 17):
        for figure in published.figures(table=str(table), edition="tpami", metric="top1_error"):
            if figure.options not in ({}, {"attn_options": {"bias": False}}):
                wanted.add((figure.table, figure.row))
    usual = {("10", "r = 16"), ("11", "Avg"), ("12", "Sigmoid"), ("14", "SE")}  # what is the default, spelt out
    assert {(table, row) for table, row, _ in ROWS} == wanted - usual


@pytest.mark.parametrize("name", ["imagenet.seresnet50_ablation", "imagenet.seresnet50_ablation270"])
@pytest.mark.parametrize(("table", "row", "change"), ROWS)
def test_a_row_of_the_ablations_is_one_option(name, table, row, change):
    recipe = get_recipe(name).override(parse_assignments(shlex.split(change)))
    figures = published.figures(table=table, edition="tpami", model=recipe.model.name, metric="top1_error")
    (figure,) = [figure for figure in figures if figure.row == row]
    assert {**recipe.model.options} == {**figure.options}


def test_ablations_have_no_biases_in_the_blocks_and_others_have():
    names = {}
    for name in ("imagenet.seresnet50_ablation", "imagenet.seresnet50_ablation270", "imagenet.seresnet50"):
        model = get_recipe(name).model
        network = create_model(model.name, **model.options, depths=[1, 1, 1, 1])
        names[name] = [key for key in network.state_dict() if key.endswith("se.fc1.bias")]
    assert [len(keys) for keys in names.values()] == [0, 0, 4]


def test_senet154_drops_out_and_freezes_its_norms_at_the_end():
    recipe = get_recipe("imagenet.senet154")
    network = create_model(recipe.model.name, **recipe.model.options, depths=[1, 1, 1, 1])
    assert network.head_drop.p == 0.2
    assert recipe.schedule.freeze_norms == 0.95
    assert recipe.loss.label_smoothing == 0.1
