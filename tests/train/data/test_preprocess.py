from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from senet.models.weights.preprocessing import Preprocessing
from senet.train.data import to_input
from senet.train.data.preprocess import Normalise, fit
from senet.train.recipe import Data


def gradient(height: int, width: int) -> torch.Tensor:
    """Brightness grows by 2 a column and 1 a row."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return (rows + 2 * columns).to(torch.uint8).expand(3, height, width).contiguous()


def test_normalise_is_mean_and_std_of_unit_pixels():
    spec = Data("synthetic", mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    image = torch.randint(0, 256, (4, 3, 5, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    wanted = (image.double() / 255 - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1)
    result = Normalise(spec)(image)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), wanted, atol=1e-5, rtol=0)


def test_image_of_the_right_size_is_not_touched():
    image = gradient(32, 32)
    assert torch.equal(fit(image, Data("synthetic", size=32)), image)


def test_centre_is_cropped():
    image = gradient(8, 20)
    assert torch.equal(fit(image, Data("synthetic", size=8)), image[:, :, 6:14])


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (10, 15), (33, 33), (1, 9)])
def test_shorter_side_is_resized_then_the_centre_cropped(height, width):
    result = fit(gradient(height, width), Data("synthetic", size=16, resize=20))
    assert result.shape == (3, 16, 16)
    # A gradient stays one under bilinear resizing; its middle stays in the middle.
    middle = (height - 1) / 2 + (width - 1)
    assert abs(result.float().mean().item() - middle) <= 1.5


def test_resizing_averages_what_it_shrinks():
    columns = torch.arange(64) % 8
    stripes = (255 * ((columns == 3) | (columns == 4))).to(torch.uint8).expand(3, 64, 64)
    result = fit(stripes.contiguous(), Data("synthetic", size=8)).float()
    assert result.max() < 127  # without antialiasing 255: only the middle of every eight columns is looked at


def test_batches_are_fitted_as_single_images_are():
    images = torch.randint(0, 256, (5, 3, 40, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    spec = Data("synthetic", size=16, resize=20)
    assert torch.equal(fit(images, spec), torch.stack([fit(image, spec) for image in images]))


def test_to_input():
    spec = Data("synthetic", size=8, resize=10)
    result = to_input(gradient(20, 30), spec)
    assert result.shape == (3, 8, 8)
    assert torch.equal(result, Normalise(spec)(fit(gradient(20, 30), spec)))


def test_squashed_images_lose_their_proportions_and_nothing_else():
    image = torch.arange(2 * 4, dtype=torch.uint8).view(1, 2, 4) * 30
    spec = Preprocessing(size=2, squash=True, mean=(0.5,), std=(0.5,), channels=1)
    assert fit(image, spec).shape == (1, 2, 2)
    assert fit(image, spec)[0, :, 0].float().mean() < fit(image, replace(spec, squash=False))[0, :, 0].float().mean()


def test_interpolation_is_the_one_named():
    image = torch.randint(0, 256, (3, 40, 30), dtype=torch.uint8)
    found = {name: fit(image, Preprocessing(size=16, interpolation=name)) for name in ("bilinear", "bicubic")}
    assert not torch.equal(found["bilinear"], found["bicubic"])
    mode = InterpolationMode.BICUBIC
    expected = transforms.center_crop(transforms.resize(image, [16], mode, antialias=True), [16, 16])
    assert torch.equal(found["bicubic"], expected)
