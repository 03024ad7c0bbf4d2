from __future__ import annotations

import torch

from senet.recipes import get_recipe
from senet.train.data.preprocess import fit


def test_evaluation_sees_the_centre_of_the_squashed_image():
    """The left quarter is black: 64 of 256 columns, of which 16 are cut off; unsquashed, all of it would be."""
    image = torch.full((3, 256, 512), 255, dtype=torch.uint8)
    image[:, :, :128] = 0
    seen = fit(image, get_recipe("places365.seresnet152").data)
    assert seen.shape == (3, 224, 224)
    assert (seen[:, :, :46] == 0).all()
    assert (seen[:, :, 50:] == 255).all()


def test_as_many_images_are_seen_as_on_imagenet():
    ours, imagenet = get_recipe("places365.resnet152"), get_recipe("imagenet.resnet152")
    assert ours.optim == imagenet.optim
    assert abs(ours.schedule.epochs * 8_000_000 / (imagenet.schedule.epochs * 1_281_167) - 1) < 0.01
