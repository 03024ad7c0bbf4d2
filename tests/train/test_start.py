"""What the seed decides at the start."""

import pytest
import torch

from senet.train.recipe import Model
from senet.train.start import initial_model

BLOCKS = [
    {},
    {"attn": "cbam"},
    {"attn_options": {"reduction": 2}},
    {"placement": "pre"},
    {"placement": "identity", "stages": (2, 3)},
    {"attn_options": {"squeeze": "none"}},
]


def weights(name, options, seed=3, channels=3):
    return initial_model(Model(name, options), channels, 10, seed=seed).state_dict()


@pytest.mark.parametrize("options", BLOCKS)
def test_shared_weights_are_equal_across_the_arms_of_a_seed(options):
    plain, arm = weights("cifar_resnet8", {}), weights("cifar_seresnet8", options)
    assert plain.keys() < arm.keys()
    assert all(torch.equal(arm[name], value) for name, value in plain.items())


@pytest.mark.parametrize("name", ["mobilenetv3_small_100", "seresnet18", "regnety_002"])
def test_shared_weights_are_those_of_a_network_that_has_no_plain_twin_by_name(name):
    plain, arm = weights(name, {"attn": None}), weights(name, {})
    shared = plain.keys() & arm.keys()
    assert len(shared) > 0.8 * len(plain)
    assert all(torch.equal(arm[key], plain[key]) for key in shared)


def test_weights_are_those_of_the_seed():
    first, again, other = (weights("cifar_seresnet8", {}, seed) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], value) for name, value in again.items())
    drawn = [name for name in first if name.endswith("weight") and "bn" not in name]
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_images_of_other_channels():
    assert weights("cifar_seresnet8", {}, channels=1)["conv1.weight"].shape[1] == 1
