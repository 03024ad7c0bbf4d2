from __future__ import annotations

import math

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from senet.train.data.augment import _box, crop_flip, cut_out, jitter, resized_crop, rotate
from senet.train.data.randomness import stream


def naive_crop_flip(image: torch.Tensor, chance: torch.Tensor, pad: int) -> torch.Tensor:
    """One image, written as the papers say it."""
    channels, height, width = image.shape
    padded = torch.zeros(channels, height + 2 * pad, width + 2 * pad)
    padded[:, pad : pad + height, pad : pad + width] = image
    top, left = (math.floor(float(number) * (2 * pad + 1)) for number in chance[:2])
    crop = padded[:, top : top + height, left : left + width]
    return crop[:, :, torch.arange(width - 1, -1, -1)] if chance[2] < 0.5 else crop


def test_crop_flip_is_what_is_done_image_by_image():
    source = torch.Generator().manual_seed(0)
    for shape, pad in [((64, 3, 32, 32), 4), ((64, 1, 28, 28), 2), ((16, 3, 5, 9), 1), ((16, 3, 8, 8), 0)]:
        images, chance = torch.randn(shape, generator=source), torch.rand(shape[0], 3, generator=source)
        wanted = torch.stack([naive_crop_flip(image, row, pad) for image, row in zip(images, chance, strict=True)])
        assert torch.equal(crop_flip(images, chance, pad=pad), wanted)


def test_crop_reaches_every_offset_and_no_further():
    pad = 2
    least, most = torch.zeros(1, 3), torch.full((1, 3), 1 - 2**-24)  # the largest float32 below 1
    image = torch.arange(1.0, 26).view(1, 1, 5, 5)
    assert crop_flip(image, least, pad=pad)[0, 0, 2:, :3].flip(1).equal(image[0, 0, :3, :3])  # 0 flips, too
    assert crop_flip(image, most, pad=pad)[0, 0, :3, :3].equal(image[0, 0, 2:, 2:])
    chance = torch.from_numpy(stream("batch").random((2000, 3), "float32"))
    crops = crop_flip(image.expand(2000, -1, -1, -1), chance, pad=pad)
    assert len(torch.unique(crops.flatten(1), dim=0)) == 5 * 5 * 2


def test_padding_is_zero_in_what_is_given():
    crops = crop_flip(torch.ones(1, 3, 4, 4), torch.tensor([[0.0, 0.0, 0.9]]), pad=1)
    assert crops[0, 0].tolist() == [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]]


def naive_cut_out(image: torch.Tensor, chance: torch.Tensor, side: int) -> torch.Tensor:
    """One image, pixel by pixel, after the authors' code."""
    channels, height, width = image.shape
    centre_row, centre_column = math.floor(float(chance[0]) * height), math.floor(float(chance[1]) * width)
    top, left = max(centre_row - side // 2, 0), max(centre_column - side // 2, 0)
    bottom, right = min(centre_row - side // 2 + side, height), min(centre_column - side // 2 + side, width)
    result = image.clone()
    for channel in range(channels):
        for row in range(top, bottom):
            for column in range(left, right):
                result[channel, row, column] = 0
    return result


def test_cut_out_is_what_is_done_image_by_image():
    source = torch.Generator().manual_seed(0)
    for shape, side in [((64, 3, 32, 32), 16), ((32, 3, 32, 32), 8), ((32, 1, 28, 28), 5), ((32, 3, 5, 9), 1)]:
        images, chance = torch.randn(shape, generator=source), torch.rand(shape[0], 2, generator=source)
        given = images.clone()
        wanted = torch.stack([naive_cut_out(image, row, side) for image, row in zip(images, chance, strict=True)])
        assert torch.equal(cut_out(images, chance, side=side), wanted)
        assert torch.equal(images, given)


def test_holes_have_their_centre_anywhere_in_the_image_and_are_clipped():
    images = torch.ones(3, 1, 6, 6)
    most = 1 - 2**-24  # the largest float32 below 1
    first, middle, last = cut_out(images, torch.tensor([[0.0, 0.0], [0.5, 0.5], [most, most]]), side=4)[:, 0]
    assert (first == 0).nonzero().tolist() == [[row, column] for row in (0, 1) for column in (0, 1)]
    assert (middle == 0).nonzero().tolist() == [[row, column] for row in range(1, 5) for column in range(1, 5)]
    assert (last == 0).nonzero().tolist() == [[row, column] for row in (3, 4, 5) for column in (3, 4, 5)]
    chance = torch.from_numpy(stream("batch").random((4000, 2), "float32"))
    holes = cut_out(torch.ones(4000, 1, 6, 5), chance, side=1) == 0
    assert holes.sum().item() == 4000
    expected = 4000 / 30
    assert (holes.sum(dim=(0, 1)) - expected).abs().max().item() < 4.5 * expected**0.5


def test_a_hole_keeps_dtype_and_covers_what_is_not_finite():
    images = torch.full((1, 2, 4, 4), torch.inf, dtype=torch.bfloat16)
    result = cut_out(images, torch.tensor([[0.5, 0.5]]), side=2)
    assert result.dtype == torch.bfloat16
    assert result[0, 0].isfinite().sum() == 4


def test_resized_crop_is_the_box_resized():
    image = torch.randint(0, 256, (3, 40, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for index in range(20):
        top, left, height, width = _box(40, 60, stream("image", index=index), 0.08)
        part = image[:, top : top + height, left : left + width]
        wanted = transforms.resize(part, [16, 16], antialias=True)
        result = resized_crop(image, stream("image", index=index), size=16, min_area=0.08)
        assert torch.equal(result, wanted)
        smooth = transforms.resize(part, [16, 16], InterpolationMode.BICUBIC, antialias=True)
        chance = stream("image", index=index)
        assert torch.equal(resized_crop(image, chance, size=16, min_area=0.08, interpolation="bicubic"), smooth)


def test_boxes_have_the_shares_and_ratios_asked_for():
    chance = stream("image")
    boxes = np.array([_box(400, 400, chance, 0.25) for _ in range(3000)], float)
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 400).all()
    assert (left + width <= 400).all()
    share, ratio = height * width / 400**2, width / height
    assert 0.245 < share.min() < 0.27
    assert share.max() > 0.9
    assert 0.74 < ratio.min() < 0.77
    assert 1.30 < ratio.max() < 1.34
    # Uniform in [0.25, 1] has mean 0.625; of the largest boxes, those that do not fit are drawn again.
    assert 0.5 < share.mean() < 0.625
    assert abs(np.log(ratio).mean()) < 0.015


def test_box_of_an_image_where_none_fits_is_the_largest_central_one():
    assert _box(3, 300, stream("image"), 1.0) == (0, 148, 3, 4)
    assert _box(300, 3, stream("image"), 1.0) == (148, 0, 4, 3)
    assert _box(1, 1, stream("image"), 0.08) == (0, 0, 1, 1)


def test_boxes_of_thin_images_are_about_square():
    """So that no more is resized than fills the result, up to rounding to whole pixels."""
    chance = stream("image")
    boxes = [_box(*shape, chance, 0.0001) for shape in [(1, 100), (100, 1), (3, 300), (300, 3)] for _ in range(200)]
    assert all(max(height, width) <= 2 * min(height, width) for _, _, height, width in boxes)


def naive_rotate(image: torch.Tensor, angle: float, fill: list[float]) -> torch.Tensor:
    """Counter-clockwise by degrees, pixel by pixel: each takes the mean of the four nearest to where it came from."""
    channels, height, width = image.shape
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    middle_row, middle_column = (height - 1) / 2, (width - 1) / 2
    result = torch.zeros(channels, height, width)
    for row in range(height):
        for column in range(width):
            right, down = column - middle_column, row - middle_row
            from_column, from_row = middle_column + right * cos - down * sin, middle_row + right * sin + down * cos
            top, left = math.floor(from_row), math.floor(from_column)
            for r, row_share in ((top, 1 - (from_row - top)), (top + 1, from_row - top)):
                for c, column_share in ((left, 1 - (from_column - left)), (left + 1, from_column - left)):
                    inside = 0 <= r < height and 0 <= c < width
                    pixel = image[:, r, c].float() if inside else torch.tensor(fill)
                    result[:, row, column] += row_share * column_share * pixel
    return result


def test_rotate_is_what_is_done_pixel_by_pixel():
    source = torch.Generator().manual_seed(0)
    for shape, degrees in [((3, 20, 20), 10.0), ((3, 12, 17), 10.0), ((1, 9, 8), 45.0), ((3, 7, 7), 180.0)]:
        image = torch.randint(0, 256, shape, dtype=torch.uint8, generator=source)
        fill = [120.5, 10.0, 250.0][: shape[0]]
        for index in range(3):
            angle = stream("image", index=index).uniform(-degrees, degrees)
            result = rotate(image, stream("image", index=index), degrees=degrees, fill=fill)
            assert result.dtype == torch.uint8
            # Half a step is the rounding to whole pixels, the rest float32.
            assert (result - naive_rotate(image, angle, fill)).abs().max() < 0.51


def test_angles_are_uniform_both_ways():
    """The column that a point at the right end moves up or down by says the angle."""
    image = torch.zeros(1, 201, 201, dtype=torch.uint8)
    image[0, 100, 196:] = 255
    rows = torch.arange(201.0)
    angles = []
    for index in range(400):
        turned = rotate(image, stream("image", index=index), degrees=10.0, fill=[0.0])[0].double()
        across = torch.arange(201.0)
        row = float((turned.sum(1) * rows).sum() / turned.sum())
        column = float((turned.sum(0) * across).sum() / turned.sum())
        angles.append(math.degrees(math.atan2(100 - row, column - 100)))
    found = np.sort(np.array(angles))
    assert -10.1 < found[0] < -9.8
    assert 9.8 < found[-1] < 10.1
    uniform = np.linspace(-10, 10, len(found))
    assert np.abs(found - uniform).max() < 1.36 / len(found) ** 0.5 * 20  # Kolmogorov and Smirnov, 5 %


def test_no_angle_leaves_the_image():
    image = torch.randint(0, 256, (3, 11, 14), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rotate(image, stream("image"), degrees=0.0, fill=[0.0, 0.0, 0.0]), image)


def test_jitter_is_what_is_done_pixel_by_pixel():
    image = torch.randint(0, 256, (3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    given = image.clone()
    noise = stream("image", index=1).integers(-20, 21, (3, 9, 7), np.int16)
    wanted = [min(max(pixel + int(by), 0), 255) for pixel, by in zip(image.flatten().tolist(), noise.flat, strict=True)]
    result = jitter(image, stream("image", index=1), most=20)
    assert result.dtype == torch.uint8
    assert result.flatten().tolist() == wanted
    assert torch.equal(image, given)


def test_jitter_is_uniform_and_of_each_pixel_and_channel_by_itself():
    grey = torch.full((3, 128, 128), 100, dtype=torch.uint8)
    change = jitter(grey, stream("image"), most=20).double() - 100
    counts = (change + 20).long().flatten().bincount()
    expected = change.numel() / 41
    assert len(counts) == 41
    assert (counts - expected).abs().max() < 4 * expected**0.5
    others = [change[[1, 2, 0]], change.roll(1, 1), change.roll(1, 2)]  # of other channels, of neighbours
    assert all(abs((change * other).mean() / change.var()) < 4 / change.numel() ** 0.5 for other in others)


def test_jittered_pixels_stay_pixels():
    image = torch.tensor([0, 255], dtype=torch.uint8).repeat(500).view(1, 20, 50)
    result = jitter(image, stream("image"), most=255)
    dark, bright = result[image == 0], result[image == 255]
    assert 0.4 < (dark == 0).float().mean() < 0.6  # half of the changes would go below
    assert 0.4 < (bright == 255).float().mean() < 0.6
