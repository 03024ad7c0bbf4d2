import inspect
import re
import shlex

import pytest

from senet import InputError, create_model
from senet.models import model_config
from senet.recipes import RECIPES, get_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_each_names_itself_and_can_be_built(name):
    recipe = get_recipe(name)
    assert recipe.name == name
    create_model(recipe.model.name, num_classes=3, in_chans=recipe.data.channels, **recipe.model.options)


@pytest.mark.parametrize("name", RECIPES)
def test_docstrings_give_the_command(name):
    command = re.search(r"Command: ``(.*)``", inspect.getdoc(RECIPES[name]))
    words = shlex.split(command.group(1))
    assert words[:3] == ["senet", "train", name]
    assert "--out" in words


@pytest.mark.parametrize("name", [name for name in RECIPES if ".se" in name])
def test_twins_differ_in_the_network_alone(name):
    se, plain = get_recipe(name), get_recipe(name.replace(".se", ".", 1))
    assert model_config(se.model.name).attn == "se"
    assert model_config(plain.model.name).attn is None
    assert (se.data, se.optim, se.schedule, se.loss, se.run) == (
        plain.data, plain.optim, plain.schedule, plain.loss, plain.run,
    )  # fmt: skip


def test_the_nearest_names_are_named():
    with pytest.raises(InputError, match=r"no recipe is called 'cifar\.resnt20'; did you mean 'cifar\.resnet20'"):
        get_recipe("cifar.resnt20")
