from __future__ import annotations

import pytest
import torch

from senet.train.data.synthetic import make_split
from senet.train.recipe import Data


@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 28)])
def test_shape_and_balance(channels, size):
    spec = Data("synthetic", channels=channels, size=size, mean=(0.5,) * channels, std=(0.25,) * channels)
    for split, count in (("train", 2048), ("val", 512)):
        image_set = make_split(spec, split)
        assert image_set.images.shape == (count, channels, size, size)
        assert image_set.images.dtype == torch.uint8
        assert len(image_set.classes) == 10
        counts = image_set.labels.bincount()
        assert counts.max() - counts.min() <= 1


def test_same_every_time_and_no_image_twice():
    spec = Data("synthetic")
    state = torch.get_rng_state()
    train, again, val = make_split(spec, "train"), make_split(spec, "train"), make_split(spec, "val")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(train.images, again.images)
    everything = torch.cat([train.images, val.images]).flatten(1)
    assert len(torch.unique(everything, dim=0)) == len(everything)


def test_it_can_be_learned():
    """The nearest class mean of the training images tells the validation images apart."""
    spec = Data("synthetic")
    train, val = make_split(spec, "train"), make_split(spec, "val")
    means = torch.stack([train.images[train.labels == label].float().mean(0).flatten() for label in range(10)])
    nearest = torch.cdist(val.images.float().flatten(1), means).argmin(1)
    assert (nearest == val.labels).float().mean() > 0.99
