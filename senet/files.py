"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from senet.errors import InputError

__all__ = ["draft_of", "write_whole"]


def draft_of(path: Path) -> Path:
    """Returns the path at which a file is written before it takes its place."""
    return path.with_name(f".{path.name}.tmp")


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that a crash at any moment leaves either the old one or the new one.

    It is written beside its place, brought to the disk, and renamed.

    Raises:
        InputError: it cannot be written, or not be brought to the disk; says why. A whole file is there, old or new.
    """
    draft = draft_of(path)
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # what is wrong with the place is said below
            draft.unlink()
        raise InputError(f"cannot write {path}: {error.strerror}; name another place") from None


def _sync_folder(folder: Path) -> None:
    """Brings a rename to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
