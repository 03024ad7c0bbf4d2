"""What the text-line classifier is tried on: PaddleOCR's weights and lines of text cut from a photograph of a page.

Both lie in packages, of which only these files are read: rapidocr-onnxruntime 1.4.4 (the network, Apache-2.0) and
scikit-image (the page).

    pip install --no-deps rapidocr-onnxruntime==1.4.4 scikit-image==0.26.0
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

__all__ = ["CLASSES", "PAGE", "WEIGHTS", "boxes", "crops", "network_input"]

CLASSES = ("upright", "turned by 180 degrees")
HEIGHT, WIDTH = 48, 192
WINDOW = 64  # pixels of the page, some five letters; a line is 12 to 20 high with its margins
MARGIN = 2
LEAST_HEIGHT, LEAST_INK = 9, 3


def _file(package: str, path: str) -> Path | None:
    """A file of a package, which is not imported; None where it is not there."""
    spec = importlib.util.find_spec(package)
    places = (spec.submodule_search_locations if spec is not None else None) or ()
    return next((file for place in places if (file := Path(place) / path).is_file()), None)


WEIGHTS = _file("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx")
PAGE = _file("skimage", "data/page.png")


def boxes(page: Image.Image, step: int = WINDOW) -> Iterator[tuple[int, int, int, int]]:
    """Left, top, right and bottom of each line of text in windows that begin every ``step`` pixels.

    A line is what has some pixels clearly darker than the paper around them in every row.
    """
    grey = page.convert("L")
    light = np.asarray(grey.filter(ImageFilter.GaussianBlur(12)), dtype=np.float64)
    dark = np.asarray(grey, dtype=np.float64) < 0.8 * light
    for left in range(0, page.width - WINDOW + 1, step):
        inked = dark[:, left : left + WINDOW].sum(1) >= LEAST_INK
        edges = np.flatnonzero(np.diff(inked, prepend=False, append=False))
        for top, bottom in edges.reshape(-1, 2).tolist():
            if bottom - top >= LEAST_HEIGHT:
                yield left, top - MARGIN, left + WINDOW, bottom + MARGIN


def network_input(crop: Image.Image) -> Tensor:
    """A picture as the network takes it, (3, 48, 192), by PaddleOCR's rule: proportions kept, zeros to the right."""
    width = min(WIDTH, math.ceil(HEIGHT * crop.width / crop.height))
    pixels = np.asarray(crop.convert("RGB").resize((width, HEIGHT), Image.Resampling.BILINEAR), dtype=np.float32)
    result = torch.zeros(3, HEIGHT, WIDTH)
    result[:, :, :width] = torch.from_numpy((pixels / 255 - 0.5) / 0.5).permute(2, 0, 1)
    return result


def crops(page: Path, *, step: int = WINDOW, part: tuple[float, float] = (0, 1)) -> tuple[Tensor, Tensor]:
    """Lines of text, each upright and turned by 180 degrees.

    Args:
        page: a picture of text.
        step: pixels from one window to the next; less than 64 makes them overlap.
        part: of the picture's width, from and to: only what lies in there whole.

    Returns:
        Images (N, 3, 48, 192) and labels (N,), all upright ones first.
    """
    picture = Image.open(page).convert("RGB")
    low, high = (share * picture.width for share in part)
    found = [picture.crop(box) for box in boxes(picture, step) if low <= box[0] and box[2] <= high]
    images = [network_input(crop) for crop in found] + [network_input(crop.rotate(180)) for crop in found]
    return torch.stack(images), torch.tensor([0, 1]).repeat_interleave(len(found))
