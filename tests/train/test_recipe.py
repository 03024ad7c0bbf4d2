import json

import pytest

from senet.errors import InputError
from senet.options import to_plain
from senet.recipes import RECIPES, get_recipe
from senet.train.recipe import Data, Model, Recipe
from senet.train.tasks import read_recipe


def synthetic(**changes):
    return get_recipe("synthetic.seresnet8").override(changes)


@pytest.mark.parametrize("name", RECIPES)
def test_survives_the_way_through_json(name):
    recipe = get_recipe(name).override({"model.options.attn_options": {"reduction": 4}})
    assert read_recipe(json.loads(json.dumps(to_plain(recipe)))) == recipe


def test_a_file_comes_back(tmp_path):
    recipe = synthetic()
    (tmp_path / "recipe.json").write_text(json.dumps(to_plain(recipe)))
    assert Recipe.load(tmp_path / "recipe.json") == recipe


def test_override_reaches_every_group_and_leaves_the_original_alone():
    recipe = synthetic()
    changed = recipe.override({"optim.lr": 1, "model.options.placement": "pre", "schedule.milestones": [0.25, 0.5]})
    assert changed.optim.lr == 1.0
    assert isinstance(changed.optim.lr, float)
    assert changed.model.options == {"placement": "pre"}
    assert changed.schedule.milestones == (0.25, 0.5)
    assert recipe == synthetic()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optim.lrr": 1}, "did you mean 'lr'"),
        ({"optm.lr": 1}, "did you mean 'optim'"),
        ({"optim.lr": "fast"}, "accepted: a number"),
        ({"optim.lr": -1.0}, "optim.lr is -1.0; accepted: 0 or more"),
        ({"optim.lr": float("nan")}, "optim.lr is nan"),
        ({"optim.name": "sdg"}, "accepted: 'sgd', 'adamw'"),
        ({"run.compile": 1}, "accepted: true or false"),
        ({"run.seed": True}, "accepted: a whole number"),
        ({"run.seed": 1.5}, "accepted: a whole number"),
        ({"schedule.epochs": 0}, "schedule.epochs is 0; accepted: 1 or more"),
        ({"data.mean": [0.5]}, "data.mean is [0.5]; accepted: 3 finite numbers, one a channel"),
        ({"data.std": [0.5, 0.5, 0.0]}, "data.std"),
        ({"data.std": [0.5, 0.5, float("nan")]}, "data.std is [0.5, 0.5, nan]; accepted: 3 finite numbers"),
        ({"data.mean": [0.5, float("inf"), 0.5]}, "data.mean is [0.5, inf, 0.5]; accepted: 3 finite numbers"),
        ({"data.channels": 2, "data.mean": [0, 0], "data.std": [1, 1]}, "accepted: 1 (grey) or 3 (RGB)"),
        ({"data.resize": 16}, "data.resize is 16, smaller than size=32"),
        ({"data.cutout": -1}, "data.cutout is -1; accepted: 0 or more"),
        ({"data.cutout": 33}, "data.cutout is 33, larger than data.size=32; give at most that"),
        ({"data.mixup": -0.1}, "data.mixup is -0.1; accepted: 0 or more"),
        ({"data.mixup": float("inf")}, "data.mixup is inf; accepted: 0 or more"),
        ({"data.val_fraction": 1.0}, "from 0 to below 1"),
        ({"loss.label_smoothing": 1.0}, "from 0 to below 1"),
        ({"optim.momentum": 0.0}, "optim.nesterov needs optim.momentum above 0"),
        ({"schedule.name": "step"}, "without schedule.milestones"),
        ({"schedule.milestones": [0.5, 82]}, "schedule.milestones[1] is 82.0; accepted: from 0 to below 1"),
        ({"schedule.warmup": 5}, "schedule.warmup is 5.0; accepted: from 0 to below 1"),
        ({"schedule.warmup_factor": -3.0}, "schedule.warmup_factor is -3.0"),
        ({"schedule.gamma": -1.0}, "schedule.gamma is -1.0"),
        ({"optim.betas": [0.9, 2]}, "optim.betas[1] is 2.0"),
        ({"data.min_area": 0.0}, "data.min_area is 0.0; accepted: above 0, up to 1"),
        ({"data.rotation": -1.0}, "data.rotation is -1.0; accepted: degrees from 0 to 180"),
        ({"data.rotation": float("nan")}, "data.rotation is nan"),
        ({"data.jitter": 256}, "data.jitter is 256; accepted: from 0 to 255"),
        ({"schedule.freeze_norms": 1.0}, "schedule.freeze_norms is 1.0; accepted: from 0 to below 1"),
        ({"run.seed": 2**32}, "accepted: below 2**32"),
        ({"run.accumulate": 3}, "not a multiple of run.accumulate=3"),
    ],
)
def test_refuses_what_no_training_could_have(changes, words):
    with pytest.raises(InputError) as refused:
        synthetic(**changes)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": "x"}', "\x00\xff"])
def test_refuses_a_file_that_is_no_recipe(tmp_path, text):
    (tmp_path / "recipe.json").write_bytes(text.encode("latin1"))
    with pytest.raises(InputError, match=r"recipe\.json (is not a recipe|lacks|is \[\])"):
        Recipe.load(tmp_path / "recipe.json")


def test_a_recipe_without_anything_optional_is_complete():
    with pytest.raises(InputError, match="milestones"):  # the default schedule drops the rate at epochs not given
        Recipe("bare", Model("cifar_resnet8"), Data("cifar10"))
