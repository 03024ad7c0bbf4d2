import pytest
import torch

from senet import create_model
from senet.errors import InputError
from senet.models.weights.files import write_tensors
from senet.train.detection.start import initial_detector
from tests.train.detection.folders import tiny_recipe

NARROW = {"model.options": {"depths": [1, 1, 1, 1], "planes": [8, 8, 16, 16]}}


def state(network, seed=3, **changes):
    recipe = tiny_recipe("nowhere", **{"model.name": network, "run.seed": seed, **NARROW, **changes})
    return initial_detector(recipe, 2).state_dict()


def test_shared_weights_are_equal_across_the_arms_of_a_seed():
    plain, gated = state("resnet18"), state("seresnet18")
    assert plain.keys() < gated.keys()
    assert all(torch.equal(gated[name], value) for name, value in plain.items())
    assert any(name.startswith("roi_heads") for name in plain)


def test_weights_are_those_of_the_seed():
    first, again, other = state("seresnet18"), state("seresnet18"), state("seresnet18", 4)
    assert all(torch.equal(first[name], value) for name, value in again.items())
    assert not torch.equal(first["backbone.body.conv1.weight"], other["backbone.body.conv1.weight"])


def test_the_backbone_s_own_weights_come_in_and_the_rest_is_of_the_seed(tmp_path):
    options = {"depths": (1, 1, 1, 1), "planes": (8, 8, 16, 16)}
    torch.manual_seed(9)
    theirs = create_model("seresnet18", **options).state_dict()
    told = {"model": "seresnet18", "options": {key: list(value) for key, value in options.items()}}
    write_tensors(tmp_path / "w.safetensors", theirs, told)
    found = state("seresnet18", weights=str(tmp_path / "w.safetensors"))
    prefix = "backbone.body."
    own = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    assert own
    assert all(torch.equal(value, theirs[name]) for name, value in own.items())
    fresh = state("seresnet18")
    rest = [name for name in found if not name.startswith(prefix)]
    assert rest
    assert all(torch.equal(found[name], fresh[name]) for name in rest)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({}, None),
        ({"mean": [0.485, 0.456, 0.40600001]}, None),
        ({"mean": [0.5, 0.5, 0.5]}, r"weights=.* were trained with \[0.5, 0.5, 0.5\]; give --set 'detector.mean=\["),
        ({"std": [1 / 255] * 3}, r"detector.std is \[0.229, 0.224, 0.225\], but .* \[0.00392157, 0.00392157, "),
    ],
)
def test_weights_for_images_normalised_otherwise_are_refused(tmp_path, how, words):
    options = {"depths": (1, 1, 1, 1), "planes": (8, 8, 16, 16)}
    told = {"model": "resnet18", "options": {key: list(value) for key, value in options.items()}, "preprocessing": how}
    write_tensors(tmp_path / "w.safetensors", create_model("resnet18", **options).state_dict(), told)
    if words is None:
        assert state("resnet18", weights=str(tmp_path / "w.safetensors"))
        return
    with pytest.raises(InputError, match=words):
        state("resnet18", weights=str(tmp_path / "w.safetensors"))


def test_weights_that_are_not_there_are_refused():
    with pytest.raises(InputError, match="no such file"):
        state("seresnet18", weights="nowhere/w.safetensors")
