from __future__ import annotations

import pytest
import torch
from PIL import Image

from senet.errors import InputError
from senet.models import create_model
from senet.study.excitation import excite_trained
from senet.train.apply import evaluate_run
from senet.train.recipe import Data
from senet.train.trained import Trained


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of class folders: two colours, 12 images each."""
    folder = tmp_path_factory.mktemp("photos")
    for name, colour in (("blue", (20, 30, 200)), ("red", (200, 30, 20))):
        (folder / name).mkdir()
        for i in range(12):
            Image.new("RGB", (20, 20), tuple(c + 2 * i for c in colour)).save(folder / name / f"{i:02}.png")
    return folder


@pytest.fixture
def others():
    """A network with two classes that nobody has named."""
    torch.manual_seed(0)
    model = create_model("cifar_seresnet8", num_classes=2).eval()
    data = Data("folder", size=16, mean=(0.5,) * 3, std=(0.5,) * 3, augment="none", workers=0, batch_size=4)
    return Trained(model, data, ("0", "1"), None, {}, named=False)


def test_it_sees_the_images_that_evaluation_sees(others, photos):
    told = []
    found = excite_trained(others, photos, name="net", limit=20, portraits=1, progress=lambda *what: told.append(what))
    assert found.top1 == pytest.approx(evaluate_run(others, photos).top1)
    assert found.classes == ("blue", "red")  # the folders
    assert found.images == 24
    assert found.leave_out.images == 20
    assert {"decoding images", "recording gates", "leaving gates out"} == {what for what, _, _ in told}
    assert ("recording gates", 4, 24) in told


def test_a_class_that_is_missing(others, photos, tmp_path):
    named = Trained(others.model, others.data, ("blue", "green"), None, {})
    with pytest.raises(InputError, match="missing: green; extra: red"):
        excite_trained(named, photos, name="net", progress=lambda *_: None)
