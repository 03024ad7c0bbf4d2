from __future__ import annotations

import json

import pytest

from senet.errors import InputError
from senet.models.weights.preprocessing import Preprocessing
from senet.options import build, to_plain


def test_it_survives_a_file():
    own = Preprocessing(size=299, resize=333, squash=True, interpolation="bicubic", mean=(0.5,) * 3, std=(0.25,) * 3)
    read = json.loads(json.dumps(to_plain(own)))
    assert build(Preprocessing, read, what="preprocessing") == own


def test_grey():
    assert Preprocessing(channels=1, mean=(0.5,), std=(0.5,)).channels == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 0}, "size is 0; accepted: 1 or more"),
        ({"size": 288, "resize": 256}, "resize is 256, smaller than size=288"),
        ({"interpolation": "lanczos"}, "'interpolation' is 'lanczos'; accepted: 'bilinear', 'bicubic'"),
        ({"channels": 1}, "mean is .* accepted: 1 finite numbers"),
        ({"channels": 4, "mean": (0.5,) * 4, "std": (0.5,) * 4}, "channels is 4"),
        ({"mean": (0.5, float("nan"), 0.5)}, "mean is .* accepted: 3 finite numbers"),
        ({"std": (0.5, 0.0, 0.5)}, "std is .* above 0"),
        ({"size": 224.5}, "'size' is 224.5; accepted: a whole number"),
    ],
)
def test_what_no_image_could_go_through_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        Preprocessing(**given)
