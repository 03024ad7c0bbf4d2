"""Images with boxes drawn on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

__all__ = ["draw"]

_FONT = 14  # pixels


def draw(
    image: Tensor,
    boxes: Sequence[Sequence[float]],
    labels: Sequence[str],
    colours: Sequence[str],
    *,
    scale: float = 1.0,
) -> Tensor:
    """An image with boxes and their names.

    Args:
        image: (3, H, W) uint8.
        boxes: left, top, right, bottom in pixels.
        labels: what stands at each; empty for nothing.
        colours: of each, ``"#rrggbb"``.
        scale: of the result to the image, so that lines and letters stay fine on small ones.

    Returns:
        (3, scale * H, scale * W) uint8.
    """
    if scale != 1:
        height, width = (round(scale * side) for side in image.shape[-2:])
        resized = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((width, height), Image.Resampling.LANCZOS)
        image = _tensor(resized)
    if not boxes:
        return image
    scaled = torch.tensor([list(box) for box in boxes], dtype=torch.float32) * scale
    drawn = draw_bounding_boxes(image, scaled, colors=list(colours), width=2)
    canvas = Image.fromarray(drawn.permute(1, 2, 0).numpy())
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(_FONT)
    for box, label, colour in zip(scaled.tolist(), labels, colours, strict=True):
        if label:
            left, top, right, bottom = pen.textbbox((box[0] + 3, box[1] + 1), label, font=font)
            pen.rectangle((left - 2, top - 1, right + 2, bottom + 1), fill=colour)
            pen.text((box[0] + 3, box[1] + 1), label, fill="white", font=font)
    return _tensor(canvas)


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
