"""Pretrained weights on the Hugging Face hub: which there are, how good they are, and fetching them.

The table is hub.toml, which tools/hub.py writes from timm's own. Nothing but safetensors is ever fetched: no pickle.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from senet.errors import InputError, did_you_mean
from senet.models.weights.preprocessing import Preprocessing
from senet.options import build

__all__ = ["Published", "Weight", "fetch", "find_weight", "list_pretrained", "weights_of"]

_TABLE = Path(__file__).with_name("hub.toml")
_INSTEAD = "or give the path of a file that you have"


@dataclass(frozen=True, kw_only=True)
class Published:
    """How accurate weights are on the validation images of ImageNet-1k, as timm measured it.

    Attributes:
        preprocessing: of the images, one crop each.
        top1: in percent; None where nothing is published.
        top5: in percent.
    """

    preprocessing: Preprocessing
    top1: float | None = None
    top5: float | None = None


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One file of weights on the hub, and what is needed to use it.

    Attributes:
        model: the network, by its name in :func:`senet.list_models`.
        tag: timm's word for how it was trained.
        hub: the repository, for example ``"timm/seresnet50.a1_in1k"``.
        published: one or two image sizes; first the one that timm uses by default.
        trained_on: the data sets, in the order of training.
        file: its name in the repository.
        revision: branch, or the commit that is meant for ever.
        sha256: of the file, where it is known beforehand.
        layout: whose names the tensors have.
        extra: modules that the file has besides the network's.
        num_classes: outputs of the classifier in the file; 0 where it has none.
        license: as timm states it; None where it states none.
    """

    model: str
    tag: str
    hub: str
    published: tuple[Published, ...]
    trained_on: tuple[str, ...]
    file: str = "model.safetensors"
    revision: str = "main"
    sha256: str | None = None
    layout: Literal["timm", "timm-legacy"] = "timm"
    extra: tuple[str, ...] = ()
    num_classes: int = 1000
    license: str | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        """How timm brings images to these weights by default."""
        return self.published[0].preprocessing

    def __str__(self) -> str:
        return f"{self.model}.{self.tag}"


def weights_of(name: str) -> tuple[Weight, ...]:
    """All pretrained weights of a network, timm's default first; empty where there are none.

    Args:
        name: a name from :func:`senet.list_models`.
    """
    return _table().get(name, ())


def list_pretrained(pattern: str = "*") -> list[str]:
    """The names of all pretrained weights that match a shell pattern, sorted: ``list_pretrained("seresnet50.*")``."""
    return sorted(fnmatch.filter([str(weight) for weights in _table().values() for weight in weights], pattern))


def find_weight(name: str, tag: str | None = None) -> Weight:
    """The weights of a network by their tag.

    Args:
        name: a name from :func:`senet.list_models`.
        tag: for example ``"a1_in1k"``; None for the default.

    Raises:
        InputError: there are none for this network, or none of this tag; names the nearest.
    """
    weights = {weight.tag: weight for weight in weights_of(name)}
    if not weights:
        near = did_you_mean(name, _table())
        raise InputError(f"{name!r} has no pretrained weights on the hub; train it, {_INSTEAD}{near}")
    if tag is None:
        return next(iter(weights.values()))
    if tag not in weights:
        raise InputError(f"{name!r} has no pretrained weights called {tag!r}{did_you_mean(tag, weights)}")
    return weights[tag]


def fetch(weight: Weight) -> Path:
    """The file of weights in the hub's cache (``$HF_HOME``), downloaded if it is not there, checked every time.

    The file's SHA-256 must be the one recorded in the table or, for the many without, the one that the hub stated when
    the file came. Either finds a download cut off, a damaged disk, a file written over in the cache. Only a recorded
    one finds that the hub gives out other weights than before: what the hub states, it states of whatever it holds.
    Nothing here helps against someone who can write to the cache and renames the file to match.

    Raises:
        InputError: huggingface_hub is not installed; the file is not there and cannot be downloaded; or it is not the
            file that was promised. Says how to go on.
    """
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


@functools.cache
def _table() -> dict[str, tuple[Weight, ...]]:
    with _TABLE.open("rb") as file:
        models = tomllib.load(file)["weights"]
    return {model: tuple(_weight(model, tag, entry) for tag, entry in tags.items()) for model, tags in models.items()}


def _weight(model: str, tag: str, entry: Mapping[str, Any]) -> Weight:
    entry = {"model": model, "tag": tag, **entry}
    shared = {key: entry.pop(key) for key in ("interpolation", "squash", "mean", "std") if key in entry}
    entry["published"] = [
        {"preprocessing": {**shared, "size": at.pop("size"), "resize": at.pop("resize")}, **at}
        for at in entry.pop("at")
    ]
    return build(Weight, entry, what=f"{_TABLE.name}: {model}.{tag}")
