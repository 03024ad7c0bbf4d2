import re

import numpy as np
import pytest
from PIL import Image

from senet.errors import InputError
from senet.recipes import get_recipe
from senet.study.reporting import write_report
from senet.train.loop import train


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of noise, 16 large images each."""
    folder = tmp_path_factory.mktemp("photos")
    chance = np.random.default_rng(0)
    for name, brightness in (("dark", 60), ("light", 190)):
        (folder / name).mkdir()
        for i in range(16):
            pixels = chance.integers(brightness - 50, brightness + 50, (300, 400, 3)).astype("uint8")
            Image.fromarray(pixels).save(folder / name / f"{i:02}.png")
    return folder


def trained(name, photos, out, **changes):
    recipe = get_recipe(name).override(
        {
            "data.root": str(photos), "data.batch_size": 8, "data.val_fraction": 0.25, "schedule.epochs": 1,
            "data.workers": 0, "data.size": 16, **changes,
        }
    )  # fmt: skip
    train(recipe, out)
    return out


def test_networks_that_see_the_images_differently(photos, tmp_path):
    runs = [
        trained("cifar.resnet8", photos, tmp_path / "colour"),
        trained("fashion.seresnet8", photos, tmp_path / "grey"),
        trained("cifar.seresnet8", photos, tmp_path / "larger", **{"data.size": 24}),
    ]
    write_report(runs, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "trained on 24 images, judged on 8 held out" in page
    assert "dark" in page


def test_large_photographs_do_not_swell_the_page(photos, tmp_path):
    run = trained("folder.seresnet18", photos, tmp_path / "run", **{"data.size": 32, "data.resize": 36})
    write_report([run], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    pictures = re.findall(r"data:image/png;base64,([^\"]*)", page)
    assert 1 <= len(pictures) <= 9
    assert max(map(len, pictures)) < 6_000  # 32 x 32, not 300 x 400


def test_images_that_are_gone_or_changed(photos, tmp_path):
    run = trained("cifar.seresnet8", photos, tmp_path / "run")
    extra = [photos / "dark" / f"new{i}.png" for i in range(8)]
    try:
        for path in extra:
            Image.new("RGB", (20, 20)).save(path)
        with pytest.raises(InputError, match="are not those of the training any more"):
            write_report([run], tmp_path / "report.html")
    finally:
        for path in extra:
            path.unlink()
    write_report([run], tmp_path / "report.html")
