"""Files of weights, whoever wrote them, as plain state_dicts; nothing in them is ever run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from senet.errors import InputError
from senet.models.weights.files import read_tensors
from senet.models.weights.kinds import refuse_other_kinds
from senet.models.weights.layouts.unwrapping import take_entry, without_wrappers
from senet.models.weights.onnx_file import read_onnx
from senet.models.weights.paddle import ABOUT, from_paddle, is_paddle
from senet.models.weights.torch_file import read_torch

__all__ = ["SUFFIXES", "Weights", "is_file_name", "read_weights"]

_TORCH = (".pth", ".pt", ".bin", ".tar", ".ckpt", ".pkl")
SUFFIXES = (".safetensors", *_TORCH, ".onnx")


@dataclass(frozen=True)
class Weights:
    """The tensors of a file.

    Attributes:
        tensors: by the names they have there, less the prefix that all had.
        info: what a file of ours says about itself; empty for others.
        taken: what was unwrapped to get there, in words.
        unread: full names of classes whose objects lay beside the tensors and were not made.
        writer: whose names the file has, where reading made them ours.
    """

    tensors: dict[str, Tensor]
    info: dict[str, Any] = field(default_factory=dict)
    taken: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    writer: str | None = None


def read_weights(path: Path, *, entry: str | None = None) -> Weights:
    """The tensors of a safetensors file, of an ONNX file, or of one that ``torch.save`` wrote.

    ONNX files are read for their parameters alone; those of PaddleOCR's classifier of text lines come under our names
    (:mod:`senet.models.weights.paddle`). What ``torch.save`` wrote are pickles, and are read by PyTorch's restricted
    unpickler alone, which runs no code; objects that are neither tensors nor plain containers are left out, and their
    classes named (:mod:`senet.models.weights.torch_file`).

    Args:
        path: ends in one of :data:`SUFFIXES`.
        entry: which entry of a checkpoint that holds several things, ``"state_dict_ema"``, or ``"model.state_dict"``
            for one in another; where there is only one, the first part of the names to take. None for the only one.

    Raises:
        InputError: no such file, another kind of file, one that is cut off or holds no tensors by name, or a checkpoint
            with several entries of weights.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.suffix not in SUFFIXES:
        first = "; the authors' files go through `senet convert` first" if path.suffix == ".caffemodel" else ""
        raise InputError(f"{path} ends in {path.suffix!r}; accepted: {', '.join(SUFFIXES)}{first}")
    refuse_other_kinds(path)
    if path.suffix not in _TORCH:
        if entry is not None:
            kind = path.suffix.removeprefix(".")
            raise InputError(f"entry is {entry!r}, but {path} is a file of {kind}, which has no entries; leave it out")
        return _read_onnx(path) if path.suffix == ".onnx" else _read_safetensors(path)
    file = read_torch(path)
    tensors, taken = take_entry(file.content, entry, path)
    tensors, more = without_wrappers(tensors)
    return Weights(tensors, taken=taken + more, unread=file.unread)


def is_file_name(text: str) -> bool:
    """Whether text means a file and not a name of weights: it has a separator or the suffix of a file of weights."""
    return Path(text).name != text or Path(text).suffix in (*SUFFIXES, ".caffemodel")


def _read_safetensors(path: Path) -> Weights:
    """Ours with what they say about themselves, others' without."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    try:
        with safe_open(path, framework="pt") as file:
            ours = "senet" in (file.metadata() or {})
        tensors, info = read_tensors(path) if ours else (load_file(path), {})
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is no safetensors file, or is cut off: {error}; download it again") from None
    return _unwrapped(tensors, info)


def _read_onnx(path: Path) -> Weights:
    """PaddleOCR's under our names, others' under their own."""
    tensors = read_onnx(path)
    if is_paddle(tensors):
        return Weights(from_paddle(tensors), dict(ABOUT), writer="paddle")
    return _unwrapped(tensors, {})


def _unwrapped(tensors: Mapping[str, Tensor], info: dict[str, Any]) -> Weights:
    tensors, taken = without_wrappers(tensors)
    return Weights(tensors, info, taken)
