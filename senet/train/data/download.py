"""Fetching a known file once, checked by its hash."""

from __future__ import annotations

import http.client
import os
from pathlib import Path

from filelock import FileLock
from torchvision.datasets.utils import check_integrity, download_url

from senet.errors import InputError

__all__ = ["cache_dir", "download"]


def cache_dir() -> Path:
    """Returns the folder of downloaded data sets: ``$SENET_DATA``, or ``~/.cache/senet/data``."""
    return Path(os.environ.get("SENET_DATA") or "~/.cache/senet/data").expanduser()


def download(url: str, md5: str, *, folder: str, otherwise: str) -> Path:
    """The file at ``url`` in the cache, downloaded if it is not there or not whole.

    Of several processes that ask for it at once, one downloads, and the others wait for it.

    Args:
        url: where it is; the last part is its name.
        md5: its hash, in hexadecimal.
        folder: the folder in the cache.
        otherwise: what the reader can do where downloading fails.

    Raises:
        InputError: it cannot be downloaded, or is not the expected file; says why and ends with ``otherwise``.
    """
    path = cache_dir() / folder / url.rpartition("/")[2]
    try:
        if check_integrity(str(path), md5):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / f".{path.name}.lock"):
            download_url(url, str(path.parent), path.name, md5)  # nothing, where another process was first
    except (OSError, http.client.HTTPException, RuntimeError) as error:  # RuntimeError: the hash is another
        raise InputError(f"cannot download {url} to {path.parent}: {error}; {otherwise}") from error
    return path
