"""An image file as a tensor: whatever Pillow reads, brought to 8 bits, upright, grey or RGB, or refused."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from senet.errors import InputError

__all__ = ["Progress", "read_image", "read_images"]

Progress = Callable[[int, int], None]  # called with how many are done, of how many

_MOST_ELONGATED = 100  # long side to short side

# `warnings.catch_warnings` changes the whole process: one thread at a time.
_WARNINGS = threading.Lock()


def read_image(path: Path, channels: int) -> Tensor:
    """Reads one image.

    EXIF orientation is applied. Of an animation or a file of many pages the first is read. Transparency is
    dropped, as torchvision's loader does: the colour stored under it shows. 16 bits a pixel are scaled to 8,
    ``round(value / 257)``; plain conversion by Pillow would clip them at 255.

    Args:
        path: the file.
        channels: 1 for grey (ITU-R 601-2 luma), 3 for RGB.

    Returns:
        ``(channels, height, width)`` uint8.

    Raises:
        InputError: the file is missing, empty, truncated, no image, has more than ``PIL.Image.MAX_IMAGE_PIXELS``
            pixels, has one side more than 100 times as long as the other (resizing the shorter one to what a network
            sees would make gigabytes of a few kilobytes), or has 32 bits a pixel (which have no fixed range). Names
            the file and the reason.
    """
    try:
        if path.stat().st_size == 0:
            raise InputError("the file is empty")
        with _open(path) as image:
            if max(image.size) > _MOST_ELONGATED * min(image.size):
                size = f"{image.width} x {image.height}"
                raise InputError(f"it is {size} pixels; accepted: sides up to 1 : {_MOST_ELONGATED}; crop it")
            upright = ImageOps.exif_transpose(image)
            pixels = np.array(_eight_bits(upright, image.format).convert("L" if channels == 1 else "RGB"))
    except InputError as error:
        raise InputError(f"cannot read image {path}: {error}") from None
    except Exception as error:
        # No list of types is complete: Pillow's decoders raise whatever the broken bytes lead them to.
        raise InputError(f"cannot read image {path}: {_reason(error)}") from error
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], channels).permute(2, 0, 1).contiguous()


def read_images(
    paths: Sequence[Path],
    channels: int,
    size: int,
    fit: Callable[[Tensor], Tensor],
    *,
    progress: Progress | None = None,
) -> Tensor:
    """Reads many images at once, in threads.

    Args:
        paths: the files.
        channels: as for :func:`read_image`.
        size: height and width of what ``fit`` returns.
        fit: brings one image to ``(channels, size, size)``.
        progress: called after each image.

    Returns:
        ``(N, channels, size, size)`` uint8.

    Raises:
        InputError: some cannot be read; names the first five and counts the rest.
    """

    def read(path: Path) -> Tensor | InputError:
        try:
            return fit(read_image(path, channels))
        except InputError as error:
            return error

    images = torch.empty(len(paths), channels, size, size, dtype=torch.uint8)
    errors = []
    with ThreadPoolExecutor() as pool:
        for index, image in enumerate(pool.map(read, paths)):
            if isinstance(image, InputError):
                errors.append(str(image))
            else:
                images[index] = image
            if progress is not None:
                progress(index + 1, len(paths))
    if errors:
        more = f"; and {len(errors) - 5} more" if len(errors) > 5 else ""
        raise InputError(f"{len(errors)} of {len(paths)} images are unreadable: {'; '.join(errors[:5])}{more}")
    return images


def _open(path: Path) -> Image.Image:
    """The image, its header read; Pillow's warning about decompression bombs counts as an error."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(path)


def _eight_bits(image: Image.Image, file_format: str | None) -> Image.Image:
    """The image with 8 bits a channel, as grey or RGB."""
    # Pillow reads portable grey maps of 16 bits as 32, scaled to 0..65535.
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format == "PPM"):
        deep = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise InputError(f"its pixels have 32 bits (mode {image.mode}) and no fixed range; save it with 8 or 16")
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # a palette with transparency warns when turned to RGB at once
    return image if image.mode == "L" else image.convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image in a format that Pillow reads"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
