"""Names of files as annotations have them."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

from senet.errors import InputError

__all__ = ["check_inside", "is_file"]


def check_inside(name: str, where: str) -> str:
    """A name that stays in whatever folder it is looked for.

    Links in the folder are the user's own, and are followed; what a file of annotations says is not.

    Args:
        name: a path relative to a folder.
        where: file and entry, as an error calls it.

    Raises:
        InputError: it is absolute, or leads out of the folder by ``..``.
    """
    path = PurePath(name)
    if path.is_absolute() or path.drive or ".." in path.parts:
        raise InputError(f"{where} is {name!r}, which may lie anywhere; accepted: a path in the folder of images")
    return name


def is_file(path: Path) -> bool:
    """Whether there is such a file; of a name that no file can have (too long, no text), no."""
    return os.path.isfile(path)
