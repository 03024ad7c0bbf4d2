"""Pretrained weights on the Hugging Face hub: which there are, how good they are, and fetching them.

The table is hub.toml, which tools/hub.py writes from timm's own. Nothing but safetensors is ever fetched: no pickle.
"""

from __future__ import annotations

import functools
import hashlib
import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from senet.errors import InputError
from senet.models.weights.weight import Weight
from senet.options import build

__all__ = ["download", "hub_weights"]

_TABLE = Path(__file__).with_name("hub.toml")
_INSTEAD = "or give the path of a file that you have"


@functools.cache
def hub_weights() -> dict[str, tuple[Weight, ...]]:
    """The weights on the hub, by network, timm's default first."""
    with _TABLE.open("rb") as file:
        models = tomllib.load(file)["weights"]
    return {model: tuple(_weight(model, tag, entry) for tag, entry in tags.items()) for model, tags in models.items()}


def download(weight: Weight) -> Path:
    """The file of weights in the hub's cache (``$HF_HOME``), downloaded if it is not there, checked every time.

    The file's SHA-256 must be the one recorded in the table or, for the many without, the one that the hub stated when
    the file came. Either finds a download cut off, a damaged disk, a file written over in the cache. Only a recorded
    one finds that the hub gives out other weights than before: what the hub states, it states of whatever it holds.
    Nothing here helps against someone who can write to the cache and renames the file to match.

    Raises:
        InputError: huggingface_hub is not installed; the file is not there and cannot be downloaded; or it is not the
            file that was promised. Says how to go on.
    """
    assert weight.hub is not None
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError:
        raise InputError(f"pretrained weights need huggingface_hub: pip install 'senet[weights]', {_INSTEAD}") from None
    try:
        download = partial(hf_hub_download, weight.hub, weight.file, revision=weight.revision)
        try:
            path = Path(download(local_files_only=True))  # the hub is asked only for what is not here
        except LocalEntryNotFoundError:
            path = Path(download())
        promised = weight.sha256 or _kept_under(path)
        if promised is None:
            promised = get_hf_file_metadata(hf_hub_url(weight.hub, weight.file, revision=weight.revision)).etag
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"{weight.file} of {weight.hub} is not in the cache and the hub cannot be reached (no network, or "
            f"HF_HUB_OFFLINE is set); fetch it once while online, {_INSTEAD}"
        ) from error
    except Exception as error:
        # No list of types is complete: they are those of whichever HTTP library the hub's client uses.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"cannot fetch {weight.file} of {weight.hub}: {reason}; try again, {_INSTEAD}") from error
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != promised:
        raise InputError(
            f"{path.resolve()} is not the promised {weight.file} of {weight.hub}: its SHA-256 is {found}, not "
            f"{promised}; delete it and try again, {_INSTEAD}"
        )
    return path


def _kept_under(path: Path) -> str | None:
    """The hash that the hub stated when the file came: the cache links a snapshot's file to one named by its hash.

    Only the first link is followed, as the file so named may itself be a link into a store with names of another kind.
    None where the cache has no links (Windows without developer mode).
    """
    return path.readlink().name if path.is_symlink() else None


def _weight(model: str, tag: str, entry: Mapping[str, Any]) -> Weight:
    entry = {"model": model, "tag": tag, **entry}
    shared = {key: entry.pop(key) for key in ("interpolation", "squash", "mean", "std") if key in entry}
    entry["published"] = [
        {"preprocessing": {**shared, "size": at.pop("size"), "resize": at.pop("resize")}, **at}
        for at in entry.pop("at")
    ]
    return build(Weight, entry, what=f"{_TABLE.name}: {model}.{tag}")
