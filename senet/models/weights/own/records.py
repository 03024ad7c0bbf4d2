"""The networks in the package: for each ``NAME.TAG.safetensors`` in this folder the record of its training.

Files and records are written by tools/own_weights.py. A file is one of a run, as ``senet train`` writes it, with its
convolutions and its classifier rounded to float16.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from senet.errors import InputError
from senet.models.weights.preprocessing import Preprocessing
from senet.models.weights.weight import Published, Weight
from senet.options import build

__all__ = ["FOLDER", "TAGS", "Record", "file_name", "own_file", "own_weights", "read_records"]

FOLDER = Path(__file__).parent
TAGS = ("cifar10_jpeg", "fashion_mnist")  # all there are; the first that a network has is its default


@dataclass(frozen=True, kw_only=True)
class Record:
    """Training and accuracy of a network in the package.

    Of several runs, the package has that of seed 0, after its last epoch. So ``top1`` is no maximum over seeds
    or epochs; ``seed_top1`` says what other seeds gave.

    Attributes:
        model: the network.
        tag: the name of its training data.
        trained_on: the data set in words.
        sha256: of the file.
        preprocessing: how images are brought to it.
        images: how many were held out.
        right: how many of those the file classifies right, measured anew on the file.
        right_in_5: of how many the class is among the five that the file finds most probable.
        seed_top1: of the runs that differ in their seed alone, by seed: percent right after the last epoch, before
            anything was rounded to float16.
        commit: of the code that trained it.
        run: the run's own summary: settings, images by their fingerprints, epochs, seconds, device, versions.
    """

    model: str
    tag: str
    trained_on: str
    sha256: str
    preprocessing: Preprocessing
    images: int
    right: int
    right_in_5: int
    seed_top1: Mapping[str, float]
    commit: str
    run: Mapping[str, Any]

    @property
    def top1(self) -> float:
        """Percent of the held-out images that the file classifies right."""
        return 100 * self.right / self.images

    @property
    def top5(self) -> float:
        """Percent of the held-out images whose class is among the file's five most probable."""
        return 100 * self.right_in_5 / self.images


def file_name(model: str, tag: str) -> str:
    """Returns the name of the file of a network's weights in the package."""
    return f"{model}.{tag}.safetensors"


def read_records(folder: Path = FOLDER) -> tuple[Record, ...]:
    """All records of a folder, sorted by the names of their files.

    Raises:
        InputError: one is no record, or is cut off.
    """
    return tuple(_read(path) for path in sorted(folder.glob("*.json")))


@functools.cache
def own_weights() -> dict[str, tuple[Weight, ...]]:
    """The weights in the package, by network; of each network in the order of :data:`TAGS`, so the default first.

    Raises:
        InputError: as :func:`read_records`.
    """
    found: dict[str, tuple[Weight, ...]] = {}
    for record in sorted(read_records(), key=lambda record: TAGS.index(record.tag)):
        found[record.model] = (*found.get(record.model, ()), _weight(record))
    return found


def own_file(weight: Weight) -> Path:
    """The file of weights that lie in the package.

    Raises:
        InputError: it is not there or not as it was packed, or safetensors is not installed.
    """
    if importlib.util.find_spec("safetensors") is None:
        raise InputError("pretrained weights need safetensors: pip install 'senet[weights]'")
    path = FOLDER / weight.file
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "that of no file"
    if found != weight.sha256:
        raise InputError(f"{path} is damaged: its SHA-256 is {found}, not {weight.sha256}; install senet again")
    return path


def _read(path: Path) -> Record:
    try:
        plain = json.loads(path.read_bytes())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"the record {path.name} is damaged: {error}; install senet again") from None
    return build(Record, plain, what=f"the record {path.name}")


def _weight(record: Record) -> Weight:
    return Weight(
        model=record.model,
        tag=record.tag,
        hub=None,
        published=(Published(preprocessing=record.preprocessing, top1=record.top1, top5=record.top5),),
        trained_on=(record.trained_on,),
        file=file_name(record.model, record.tag),
        sha256=record.sha256,
        layout=None,
        num_classes=len(record.run["classes"]),
        license="apache-2.0",
    )
