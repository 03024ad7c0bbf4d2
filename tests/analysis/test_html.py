from __future__ import annotations

import base64
import io

import pytest
import torch
from jinja2 import UndefinedError
from PIL import Image

from senet.analysis.html import png, write_page
from senet.errors import InputError


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_a_picture_comes_back(shape):
    image = torch.randint(0, 256, shape, dtype=torch.uint8)
    head, _, data = png(image).partition(",")
    assert head == "data:image/png;base64"
    back = Image.open(io.BytesIO(base64.b64decode(data)))
    assert torch.equal(torch.tensor(list(back.tobytes()), dtype=torch.uint8), image.flatten())


@pytest.mark.parametrize("image", [torch.rand(4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8)])
def test_what_is_no_picture(image):
    with pytest.raises(InputError, match="give uint8"):
        png(image)


def test_a_variable_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(UndefinedError):
        write_page("report.html.jinja", {}, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
