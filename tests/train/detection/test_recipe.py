import json

import pytest

from senet.errors import InputError
from senet.options import to_plain
from senet.train.detection.recipe import DetectionRecipe
from senet.train.tasks import read_recipe
from tests.train.detection.folders import tiny_recipe


def test_comes_back_through_json_as_what_it_is():
    recipe = tiny_recipe("nowhere")
    again = read_recipe(json.loads(json.dumps(to_plain(recipe))))
    assert isinstance(again, DetectionRecipe)
    assert again == recipe


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schedule.name": "plateau"}, "a detector has no validation loss"),
        ({"schedule.freeze_norms": 0.5}, "give detector.norm='frozen'"),
        ({"run.compile": True}, "do not compile as a whole"),
        ({"data.lr_batch": 0}, "data.lr_batch is 0; accepted: 1 or more"),
        ({"data.augment": "flop"}, "accepted: 'none', 'flip', 'flips', 'crop-flip'"),
        ({"data.workers": -1}, "data.workers is -1; accepted: 0 or more"),
        ({"detector.norm": "layer"}, "'norm' is 'layer'"),
        ({"detector.sise": 3}, "has no option 'sise'"),
    ],
)
def test_what_no_training_could_have_is_refused(changes, words):
    with pytest.raises(InputError) as refused:
        tiny_recipe("nowhere", **changes)
    assert words in str(refused.value)


@pytest.mark.parametrize(("batch", "lr"), [(2, 0.005), (4, 0.01), (1, 0.0025)])
def test_the_rate_is_in_proportion_to_the_batch(batch, lr):
    assert tiny_recipe("nowhere", **{"data.batch_size": batch}).lr == pytest.approx(lr)
