from __future__ import annotations

import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from senet.errors import InputError
from senet.train.data import read_image
from senet.train.data.images import read_images

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def colours(path: Path, channels: int = 3) -> list[list[list[int]]]:
    """Rows of pixels as lists of channel values."""
    image = read_image(path, channels)
    assert image.dtype == torch.uint8
    assert image.is_contiguous()
    return image.permute(1, 2, 0).tolist()


def row(path: Path, *pixels: tuple[int, ...], mode: str = "RGB", **options: object) -> Path:
    image = Image.new(mode, (len(pixels), 1))
    for column, pixel in enumerate(pixels):
        image.putpixel((column, 0), pixel if len(pixel) > 1 else pixel[0])
    image.save(path, **options)
    return path


def test_rgb_is_read_as_it_is(tmp_path):
    path = row(tmp_path / "a.png", (1, 2, 3), (250, 128, 7))
    assert colours(path) == [[[1, 2, 3], [250, 128, 7]]]


def test_grey_is_repeated_and_colour_is_weighed(tmp_path):
    assert colours(row(tmp_path / "grey.png", (7,), (200,), mode="L")) == [[[7] * 3, [200] * 3]]
    path = row(tmp_path / "colour.png", RED, GREEN, BLUE)
    assert colours(path, channels=1) == [[[76], [150], [29]]]  # 0.299, 0.587, 0.114 of 255


def test_cmyk(tmp_path):
    path = tmp_path / "a.tif"
    row(path, (0, 255, 255, 0), (0, 0, 0, 255), (0, 0, 0, 0), mode="CMYK")
    assert colours(path) == [[list(RED), [0, 0, 0], [255, 255, 255]]]
    assert colours(path, channels=1) == [[[76], [0], [255]]]


def test_cmyk_jpeg(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(path, quality=100)
    assert np.abs(np.array(colours(path)).reshape(-1, 3) - RED).max() <= 3


def test_palette_with_transparency_drops_it_and_does_not_warn(tmp_path):
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([2, 0, 1])
    path = tmp_path / "a.png"
    image.save(path, transparency=bytes([0, 128, 255]))
    with Image.open(path) as written:
        assert isinstance(written.info["transparency"], bytes)
    assert colours(path) == [[list(BLUE), list(RED), list(GREEN)]]
    assert colours(path, channels=1) == [[[29], [76], [150]]]


def test_alpha_is_dropped(tmp_path):
    path = row(tmp_path / "a.png", (1, 2, 3, 0), (4, 5, 6, 255), mode="RGBA")
    assert colours(path) == [[[1, 2, 3], [4, 5, 6]]]
    path = row(tmp_path / "b.png", (9, 0), (200, 255), mode="LA")
    assert colours(path) == [[[9] * 3, [200] * 3]]
    assert colours(path, channels=1) == [[[9], [200]]]


def test_black_and_white(tmp_path):
    path = row(tmp_path / "a.png", (1,), (0,), mode="1")
    assert colours(path) == [[[255] * 3, [0] * 3]]
    assert colours(path, channels=1) == [[[255], [0]]]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    values = np.array([[0, 257, 400, 32896, 65535]], np.uint16)
    if suffix == ".pgm":
        path.write_bytes(b"P5 5 1 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(path)
    assert colours(path, channels=1) == [[[0], [1], [2], [128], [255]]]
    assert colours(path) == [[[value] * 3 for value in (0, 1, 2, 128, 255)]]


@pytest.mark.parametrize(("mode", "dtype"), [("I", np.int32), ("F", np.float32)])
def test_thirty_two_bits_are_refused(tmp_path, mode, dtype):
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, 255]], dtype)).save(path)
    with pytest.raises(InputError, match=rf"a\.tif: .*32 bits \(mode {mode}\)"):
        read_image(path, 3)


@pytest.mark.parametrize(
    ("orientation", "wanted"),
    [
        (1, [[RED, GREEN]]),
        (2, [[GREEN, RED]]),
        (3, [[GREEN, RED]]),
        (6, [[RED], [GREEN]]),  # to be turned clockwise: left comes on top
        (8, [[GREEN], [RED]]),
    ],
)
def test_exif_orientation(tmp_path, orientation, wanted):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = row(tmp_path / "a.png", RED, GREEN, exif=exif)
    assert colours(path) == [[list(pixel) for pixel in line] for line in wanted]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_first_frame_of_many(tmp_path, suffix):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    path = tmp_path / f"a{suffix}"
    lossless = {"lossless": True} if suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **lossless)
    with Image.open(path) as written:
        assert written.n_frames == 2
    assert colours(path) == [[list(RED)] * 4] * 4


@pytest.mark.parametrize("side", [40, 60])  # above the limit Pillow warns, above twice the limit it raises
def test_decompression_bomb(tmp_path, monkeypatch, side):
    path = tmp_path / "a.png"
    Image.new("L", (side, side)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match=rf"a\.png: Image size \({side * side} pixels\) exceeds limit"):
        read_image(path, 3)


def test_decompression_bombs_are_refused_in_threads_and_the_filters_stay(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("L", (40, 40)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    before = list(warnings.filters)
    refused = []

    def read() -> None:
        for _ in range(20):
            try:
                read_image(path, 1)
            except InputError:
                refused.append(True)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 80
    assert warnings.filters == before


@pytest.mark.parametrize("size", [(301, 3), (3, 301), (5_000_000, 1), (1, 5_000_000)])
def test_thin_images_are_refused(tmp_path, size):
    path = tmp_path / "a.png"
    Image.new("1", size).save(path)
    wanted = rf"a\.png: it is {size[0]} x {size[1]} pixels; accepted: sides up to 1 : 100; crop it"
    with pytest.raises(InputError, match=wanted):
        read_image(path, 3)


@pytest.mark.parametrize("size", [(300, 3), (3, 300), (100, 1), (1, 1)])
def test_not_so_thin_images_are_read(tmp_path, size):
    path = tmp_path / "a.png"
    Image.new("L", size).save(path)
    assert read_image(path, 1).shape == (1, size[1], size[0])


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".gif", ".tif", ".webp", ".ppm"])
def test_truncated_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    read_image(path, 3)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=rf"^cannot read image .*a{suffix}: .+") as caught:
        read_image(path, 3)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_images(tmp_path):
    empty, text, missing = tmp_path / "empty.png", tmp_path / "text.png", tmp_path / "missing.png"
    empty.touch()
    text.write_text("not an image")
    for path, reason in [(empty, "empty"), (text, "not an image"), (missing, "No such file"), (tmp_path, "director")]:
        with pytest.raises(InputError, match=f"^cannot read image {path}: .*{reason}"):
            read_image(path, 3)


def test_broken_bytes_never_raise_anything_else(tmp_path):
    """Every image is either read or refused with one line, wherever a byte is wrong."""
    chance = np.random.default_rng(0)
    picture = Image.fromarray(chance.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    refusals = []
    for suffix in (".png", ".jpg", ".gif", ".bmp", ".tif", ".webp"):
        path = tmp_path / f"a{suffix}"
        picture.save(path)
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(40):
            broken = whole.copy()
            broken[chance.integers(0, len(broken), 5)] = chance.integers(0, 256, 5)
            path.write_bytes(broken.tobytes())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of odd metadata in files it can read
                try:
                    assert read_image(path, 3).shape[0] == 3
                except InputError as error:
                    refusals.append(str(error))
    assert len(refusals) > 20
    assert not any("\n" in refusal for refusal in refusals)


def test_many_images_keep_their_order_and_report_progress(tmp_path):
    paths = [row(tmp_path / f"{value}.png", (value,), mode="L") for value in range(30)]
    seen = []
    images = read_images(paths, 1, 1, lambda image: image, progress=lambda done, total: seen.append((done, total)))
    assert images.flatten().tolist() == list(range(30))
    assert seen == [(done, 30) for done in range(1, 31)]


def test_unreadable_images_are_named_together(tmp_path):
    good = row(tmp_path / "good.png", (1,), mode="L")
    bad = [tmp_path / f"bad{number}.png" for number in range(7)]
    for path in bad:
        path.touch()
    with pytest.raises(InputError) as caught:
        read_images([bad[0], good, *bad[1:]], 1, 1, lambda image: image)
    message = str(caught.value)
    assert message.startswith("7 of 8 images are unreadable: ")
    assert message.endswith("; and 2 more")
    assert [path.name in message for path in bad] == [True] * 5 + [False] * 2
    assert "good.png" not in message
    assert "\n" not in message
