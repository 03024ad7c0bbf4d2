import pytest

from senet.errors import InputError
from senet.options import to_plain
from senet.recipes import get_recipe
from senet.train.classification import Classification
from senet.train.tasks import read_recipe, task_of


def test_a_recipe_without_a_task_is_a_classifier_s():
    recipe = get_recipe("synthetic.resnet8")
    assert read_recipe(to_plain(recipe)) == recipe
    assert isinstance(task_of(recipe), Classification)


@pytest.mark.parametrize("task", ["segmentation", 3, None])
def test_a_task_that_is_not_known_is_refused(task):
    plain = {**to_plain(get_recipe("synthetic.resnet8")), "task": task}
    with pytest.raises(InputError, match=r"^recipe is of the task .*known: "):
        read_recipe(plain)
