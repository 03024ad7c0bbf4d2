from __future__ import annotations

import dataclasses
import inspect
import math
import re
import shlex

import pytest
import torch
from matplotlib import cbook
from PIL import Image

from senet import InputError, create_model, published
from senet.models import inception_resnet_v2, model_config, vgg
from senet.recipes import RECIPES, get_recipe
from senet.train.loop import train
from senet.train.rundir import build_model, read_metrics
from senet.train.schedule import lr_factor
from senet.train.trained import read_trained
from senet.train.watch import Watch

CLASSIFIERS = [name for name in RECIPES if get_recipe(name).task == "classification"]

# Of these nothing without SE was published.
WITHOUT_TWIN = {"imagenet.senet154", "imagenet.senet154_320"} | {name for name in RECIPES if name.endswith("_release")}

# What docstrings call an edition of published.toml.
EDITIONS = {"arXiv 1709.01507v4": "tpami", "README of github.com/hujie-frank/SENet": "release"}
FIGURES = re.compile(
    r"Published: ([\d.]+)(?: / ([\d.]+) % top-1 / top-5| %) error[^(]*"
    rf"\(({'|'.join(map(re.escape, EDITIONS))})(?:, (?:Table )?([^;)]+))?"
)
QUOTED = {
    name: found for name, recipe in RECIPES.items() if (found := FIGURES.search(" ".join(recipe.__doc__.split())))
}
NEUTRAL = {"num_classes", "drop_rate"}  # options that make no other network of published.toml


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of two class folders of JPEG files, cut from the upper and the lower half of a photograph."""
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as photo:
        for name, top in (("face", 60), ("uniform", 400)):
            (folder / name).mkdir()
            for number in range(8):
                left = 60 + 40 * number
                photo.crop((left, top, left + 80, top + 80)).save(folder / name / f"{number}.jpg")
    return folder


@pytest.fixture
def small_parts(monkeypatch):
    """What no option makes small: VGG's head, and the residual units of Inception-ResNet-v2."""
    residuals = inception_resnet_v2._residuals
    monkeypatch.setattr(inception_resnet_v2, "_residuals", lambda _, *args, **options: residuals(1, *args, **options))
    monkeypatch.setattr(vgg, "HIDDEN", 64)


def narrow(name):
    """Options that make a network small: one unit a stage where it has units, and few channels."""
    network = model_config(name)
    told = {f.name for f in dataclasses.fields(network)}
    wanted = {"depths": 1} if name.startswith("cifar_") else {"depths": 1, "planes": 32, "widths": 8}
    return {f"model.options.{key}": [value] * len(network.depths) for key, value in wanted.items() if key in told}


def tiny(name, photos, **changes):
    """A recipe as it is, but for two steps on small images, and a small network."""
    recipe = get_recipe(name)
    smallest = 75 if "inception_resnet_v2" in name else 32
    return recipe.override(
        {
            "data.source": "folder" if recipe.data.source == "synthetic" else recipe.data.source,
            "data.root": str(photos),
            "data.size": min(recipe.data.size, smallest),
            "data.batch_size": 4,
            "data.limit": 8,
            "data.val_fraction": 0.25,
            "data.workers": 0,
            "schedule.epochs": 1,
            "run.accumulate": min(recipe.run.accumulate, 2),
            **narrow(recipe.model.name),
            **changes,
        }
    )


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_each_trains_two_steps_on_image_files(name, photos, tmp_path, small_parts):
    recipe = tiny(name, photos)
    summary = train(recipe, tmp_path)
    (metrics,) = read_metrics(tmp_path)
    assert summary["train_images"] == 8
    assert math.isfinite(metrics["train_loss"])
    assert math.isfinite(metrics["val_loss"])
    torch.manual_seed(recipe.run.seed)
    before = build_model(recipe.model, recipe.data.channels, 2).state_dict()
    after = read_trained(tmp_path).model.state_dict()
    assert before.keys() == after.keys()
    assert all(value.isfinite().all() for value in after.values())
    assert not any(torch.equal(before[key], after[key]) for key in before if before[key].ndim > 1)


class Stop(Watch):
    """Interrupts a training in its second step, after a checkpoint."""

    steps = 0

    def step(self, images):
        self.steps += 1
        if self.steps == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["cifar.wrn16_8", "cifar100.sewrn16_8"])
def test_wide_networks_divide_the_rate_by_five_after_60_120_and_160_epochs(name):
    schedule = get_recipe(name).schedule
    factors = [lr_factor(schedule, epoch / schedule.epochs) for epoch in (59, 60, 119, 120, 159, 160, 199)]
    assert factors == pytest.approx([1, 0.2, 0.2, 0.04, 0.04, 0.008, 0.008])


def test_shake_and_cutout_resume_bit_for_bit(photos, tmp_path):
    """Shares and holes are functions of seed, epoch and step: a run that is interrupted ends as one that is not."""
    changes = {"schedule.epochs": 2, "run.save_every": 1}
    recipe = tiny("cifar.seshake26_2x96d", photos, **changes)
    train(recipe, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "resumed", watchers=[Stop()])
    assert (tmp_path / "resumed" / "checkpoint.safetensors").exists()
    train(recipe, tmp_path / "resumed", resume=True)
    one, other = (read_trained(tmp_path / run).model.state_dict() for run in ("whole", "resumed"))
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_each_names_itself_and_can_be_built(name):
    recipe = get_recipe(name)
    assert recipe.name == name
    with torch.device("meta"):
        create_model(recipe.model.name, num_classes=3, in_chans=recipe.data.channels, **recipe.model.options)


@pytest.mark.parametrize("name", RECIPES)
def test_docstrings_give_the_command(name):
    command = re.search(r"Command: ``(.*)``", inspect.getdoc(RECIPES[name]))
    words = shlex.split(command.group(1))
    assert words[:3] == ["senet", "train", name]
    assert "--out" in words


def test_docstrings_quote_the_paper_wherever_it_has_the_recipe():
    groups = {"imagenet", "places365"}
    assert {name for name in RECIPES if name.partition(".")[0] in groups} <= QUOTED.keys()
    assert {
        name for name in CLASSIFIERS if "Table " in RECIPES[name].__doc__ and "1709.01507" in RECIPES[name].__doc__
    } <= QUOTED.keys()


@pytest.mark.parametrize("name", QUOTED)
def test_docstrings_quote_the_figures_as_published(name):
    first, second, publication, table = QUOTED[name].groups()
    recipe, edition = get_recipe(name), EDITIONS[publication]
    rows = {}
    for figure in published.figures(model=recipe.model.name, edition=edition, table=table or "models"):
        same = {k: v for k, v in figure.options.items() if k not in NEUTRAL} == {
            k: v for k, v in recipe.model.options.items() if k not in NEUTRAL
        }
        if same and figure.image == recipe.data.size and "original" not in figure.row:
            rows.setdefault(figure.row, {})[figure.metric] = str(figure.value)
    (row,) = rows.values()
    wanted = {"error": first} if second is None else {"top1_error": first, "top5_error": second}
    assert wanted.items() <= row.items()


@pytest.mark.parametrize("name", [name for name in RECIPES if ".se" in name and name not in WITHOUT_TWIN])
def test_twins_differ_in_the_network_alone(name):
    se, plain = get_recipe(name), get_recipe(name.replace(".se", ".", 1))
    assert model_config(se.model.name).attn == "se"
    assert model_config(plain.model.name).attn is None
    differing = {f.name for f in dataclasses.fields(se) if getattr(se, f.name) != getattr(plain, f.name)}
    # Of a detector's backbone, only the authors' SE networks have weights that are known by a tag.
    assert differing <= {"name", "model", "weights"}


def test_the_nearest_names_are_named():
    with pytest.raises(InputError, match=r"no recipe is called 'cifar\.resnt20'; did you mean 'cifar\.resnet20'"):
        get_recipe("cifar.resnt20")
