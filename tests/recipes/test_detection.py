"""The recipes of Table 7, and what is trained by them."""

import re

import pytest
import torch

from senet import create_model, published
from senet.errors import InputError
from senet.models.weights.files import write_tensors
from senet.recipes import RECIPES, get_recipe
from senet.train.loop import train
from senet.train.rundir import read_metrics
from tests.train.detection.folders import write_coco

TABLE7 = [name for name in RECIPES if name.startswith("detection.") and name.endswith("_fpn")]
SMALL = ["detection.resnet18_small", "detection.seresnet18_small"]
PUBLISHED = re.compile(r"Published: ([\d.]+) AP, ([\d.]+) AP50 \(arXiv 1709\.01507v4, Table 7\)")


@pytest.mark.parametrize("name", TABLE7)
def test_the_published_figures_are_quoted(name):
    ap, ap50 = map(float, PUBLISHED.search(RECIPES[name].__doc__).groups())
    model = get_recipe(name).model.name
    figures = {f.metric: f.value for f in published.figures(edition="tpami", table="7", model=model)}
    assert {"ap": ap, "ap50": ap50} == {name: float(figures[name]) for name in ("ap", "ap50")}


@pytest.mark.parametrize("name", TABLE7)
def test_the_schedule_is_detectron_s(name):
    recipe = get_recipe(name)
    assert recipe.name == name
    steps = recipe.schedule.epochs * (118_287 // recipe.data.batch_size)
    assert steps == pytest.approx(180_000, rel=0.02)
    assert [round(m * 180_000) for m in recipe.schedule.milestones] == [120_000, 160_000]
    assert recipe.lr == 0.02
    assert (recipe.optim.momentum, recipe.optim.weight_decay, recipe.optim.norm_weight_decay) == (0.9, 1e-4, 0.0)
    assert recipe.override({"data.batch_size": 8}).lr == 0.01  # the linear rule
    assert (recipe.detector.min_size, recipe.detector.max_size, recipe.detector.frozen) == (800, 1333, 2)
    assert recipe.model.name.endswith("_caffe")  # the stride in the 1x1 convolution


@pytest.mark.parametrize("name", SMALL)
def test_small_recipes_name_themselves(name):
    assert get_recipe(name).name == name


def test_table_7_does_not_train_from_fresh_weights(tmp_path):
    recipe = get_recipe("detection.resnet50_fpn").override({"data.root": str(write_coco(tmp_path / "coco"))})
    with pytest.raises(InputError, match="fresh weights, which must learn"):
        train(recipe, tmp_path / "run")


@pytest.mark.parametrize("network", ["resnet50", "seresnet50"])
def test_table_7_takes_two_steps_on_a_folder_in_coco_s_layout_and_evaluates(tmp_path, network):
    weights = tmp_path / "w.safetensors"
    options = {"planes": [8, 8, 16, 16]}
    model = create_model(f"{network}_caffe", **{key: tuple(value) for key, value in options.items()})
    write_tensors(weights, model.state_dict(), {"model": f"{network}_caffe", "options": options})
    recipe = get_recipe(f"detection.{network}_fpn").override(
        {
            "data.root": str(write_coco(tmp_path / "coco", train=4, val=2)), "data.workers": 0, "data.batch_size": 2,
            "schedule.epochs": 1, "run.accumulate": 2, "weights": str(weights), "model.options": options,
            "detector.min_size": 64, "detector.max_size": 96, "detector.fpn_channels": 16,
            "detector.head_channels": 16,
        }
    )  # fmt: skip
    summary = train(recipe, tmp_path / "run")
    (metrics,) = read_metrics(tmp_path / "run")
    assert torch.tensor(metrics["train_loss"]).isfinite()
    assert metrics["train_loss"] == pytest.approx(sum(v for k, v in metrics.items() if k.startswith("train_loss_")))
    assert {"val_ap", "val_ap50", "val_ap75"} <= metrics.keys()
    assert [one["category_id"] for one in summary["per_class"]] == [3, 90]
    assert (summary["train_images"], summary["val_images"]) == (4, 2)
