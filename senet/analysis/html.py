"""Pages: one HTML file that needs nothing else, written from a template."""

from __future__ import annotations

import base64
import importlib.util
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from senet.analysis import wording
from senet.errors import InputError
from senet.files import write_whole

__all__ = ["png", "require_plotting", "write_page"]


def write_page(template: str, variables: Mapping[str, Any], out: Path) -> None:
    """Writes a page: style, figures and images inside, no script, nothing loaded.

    The same variables give the same bytes. A file that is there is replaced whole or not at all.

    Args:
        template: its name in ``senet/analysis/templates``.
        variables: its variables; none that it uses may be missing.
        out: the file.

    Raises:
        InputError: ``out`` cannot be written, or jinja2 is not installed.
    """
    require_plotting()
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("senet.analysis"),
        autoescape=True,  # names of classes and paths come from anywhere
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=wording.count,
        loss=wording.loss,
        percent=wording.percent,
        plural=wording.plural,
        signed=wording.signed,
        spread=wording.spread,
    )
    html = environment.get_template(template).render(variables)
    if out.is_dir():
        raise InputError(f"{out} is a folder; name the file to write")
    # A path may hold bytes that are no text; they are shown as question marks.
    write_whole(out, html.encode("utf-8", "replace"))


def require_plotting() -> None:
    """Refuses to begin where what draws a page is not installed.

    Raises:
        InputError: says what to install.
    """
    for package in ("jinja2", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"reports need {package}; pip install 'senet[plot]'")


def png(image: Tensor) -> str:
    """A picture as a data URI.

    Args:
        image: uint8, (H, W) grey or (H, W, 3) RGB.

    Raises:
        InputError: it is not uint8 or of another shape.
    """
    from PIL import Image  # matplotlib depends on it

    if image.dtype != torch.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise InputError(f"an example image is {image.dtype} {tuple(image.shape)}; give uint8 (H, W) or (H, W, 3)")
    file = io.BytesIO()
    Image.fromarray(image.cpu().numpy()).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
