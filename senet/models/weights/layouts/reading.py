"""Files of weights, whoever wrote them, as plain state_dicts; nothing in them is ever run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from senet.errors import InputError, did_you_mean
from senet.models.weights.files import read_tensors
from senet.models.weights.onnx_file import read_onnx
from senet.models.weights.paddle import ABOUT, from_paddle, is_paddle

__all__ = ["SUFFIXES", "Weights", "is_file_name", "read_weights"]

_TORCH = (".pth", ".pt", ".bin", ".tar", ".ckpt", ".pkl")
SUFFIXES = (".safetensors", *_TORCH, ".onnx")

_ENTRIES = ("state_dict", "state_dict_ema", "model", "model_ema", "model_state_dict", "net", "network", "weights")
_PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, Lightning


@dataclass(frozen=True)
class Weights:
    """The tensors of a file.

    Attributes:
        tensors: by the names they have there, less the prefix that all had.
        info: what a file of ours says about itself; empty for others.
        taken: what was unwrapped to get there, in words.
        writer: whose names the file has, where reading made them ours.
    """

    tensors: dict[str, Tensor]
    info: dict[str, Any] = field(default_factory=dict)
    taken: tuple[str, ...] = ()
    writer: str | None = None


def read_weights(path: Path, *, entry: str | None = None) -> Weights:
    """The tensors of a safetensors file, of an ONNX file, or of one that ``torch.save`` wrote.

    ONNX files are read for their parameters alone; those of PaddleOCR's classifier of text lines come under our names
    (:mod:`senet.models.weights.paddle`). What ``torch.save`` wrote are pickles, and are read by PyTorch's restricted
    unpickler alone (``weights_only=True``): it builds tensors and plain containers and runs no code. A file that holds
    anything else is refused, whoever vouches for it.

    Args:
        path: ends in one of :data:`SUFFIXES`.
        entry: which entry of a checkpoint that holds several things; None for the only one that is known to hold
            weights, for example ``"state_dict"``.

    Raises:
        InputError: no such file, another kind of file, one that is cut off or holds more than tensors, or a checkpoint
            with no entry of weights or with several.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.suffix in (".safetensors", ".onnx"):
        if entry is not None:
            kind = path.suffix.removeprefix(".")
            raise InputError(f"entry is {entry!r}, but {path} is a file of {kind}, which has no entries; leave it out")
        if path.suffix == ".onnx":
            return _read_onnx(path)
        tensors, info = _read_safetensors(path)
        return _without_prefixes(tensors, info, ())
    if path.suffix not in _TORCH:
        first = "; the authors' files go through `senet convert` first" if path.suffix == ".caffemodel" else ""
        raise InputError(f"{path} ends in {path.suffix!r}; accepted: {', '.join(SUFFIXES)}{first}")
    content = _read_torch(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}; accepted: tensors by name (a state_dict)")
    if entry is None and _is_state(content):
        return _without_prefixes(content, {}, ())
    entry = _only_entry(content, path) if entry is None else entry
    if not _is_state(content.get(entry)):
        holding = [str(key) for key, value in content.items() if _is_state(value)]
        raise InputError(f"{path}: entry {entry!r} holds no tensors by name{did_you_mean(entry, holding)}")
    return _without_prefixes(content[entry], {}, (f"entry {entry!r}",))


def is_file_name(text: str) -> bool:
    """Whether text means a file and not a name of weights: it has a separator or the suffix of a file of weights."""
    return Path(text).name != text or Path(text).suffix in (*SUFFIXES, ".caffemodel")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Ours with what they say about themselves, others' without."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as file:
            ours = "senet" in (file.metadata() or {})
        return read_tensors(path) if ours else (load_file(path), {})
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is no safetensors file, or is cut off: {error}") from None


def _read_onnx(path: Path) -> Weights:
    """PaddleOCR's under our names, others' under their own."""
    tensors = read_onnx(path)
    if is_paddle(tensors):
        return Weights(from_paddle(tensors), dict(ABOUT), writer="paddle")
    return _without_prefixes(tensors, {}, ())


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles; if they matter, an error follows
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files end in a dozen types of error
        if type(error).__name__ == "UnpicklingError":
            raise InputError(
                f"{path} holds more than tensors and plain containers, or is no file of weights; what else it holds "
                "would have to be run to be read, so it is not. Save model.state_dict() anew where it comes from"
            ) from None
        reason = " ".join(str(error).split()).partition(". ")[0] or "it ends too early"
        raise InputError(f"{path} is no file of weights, or is cut off: {reason}") from None


def _only_entry(content: Mapping[Any, Any], path: Path) -> str:
    found = [name for name in _ENTRIES if _is_state(content.get(name))]
    if not found:
        raise InputError(
            f"{path} holds {', '.join(map(str, list(content)[:8])) or 'nothing'}; accepted: tensors by name, or those "
            f"as one of {', '.join(_ENTRIES)}; name the entry that holds them"
        )
    if len(found) > 1:
        raise InputError(f"{path} holds weights as {' and '.join(map(repr, found))}; name the entry that you want")
    return found[0]


def _is_state(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items())
    )


def _without_prefixes(tensors: Mapping[str, Tensor], info: dict[str, Any], taken: tuple[str, ...]) -> Weights:
    """Takes off what all names begin with, as long as it is a known wrapper's."""
    for prefix in _PREFIXES * 2:  # wrappers of wrappers
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
            taken += (f"prefix {prefix!r}",)
    return Weights(dict(tensors), info, taken)
