"""Weights in files: safetensors with what is needed to use them, never a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from senet.errors import InputError
from senet.files import write_whole
from senet.models.weights.kinds import refuse_other_kinds

__all__ = ["load_into", "read_tensors", "write_tensors"]

_KEY = "senet"  # our entry among the file's metadata
_CONVERT = "a file of others: `senet convert FILE OUT.safetensors` first"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Writes tensors and JSON-able information into one safetensors file, whole or not at all."""
    from safetensors.torch import save

    data = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, {_KEY: json.dumps(info)})
    write_whole(path, data)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the information of a file that :func:`write_tensors` wrote.

    Raises:
        InputError: there is no such file, it is no safetensors file, it is cut off, or it is not ours.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    refuse_other_kinds(path)
    try:
        with safe_open(path, framework="pt") as file:
            info = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is no safetensors file, or is cut off: {error}; {_CONVERT}") from None
    if info is None:
        raise InputError(f"{path} is a safetensors file, but does not say which network it belongs to; {_CONVERT}")
    try:
        info = json.loads(info)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} says in no readable way which network it belongs to: {error}") from None
    if not isinstance(info, dict):
        raise InputError(f"{path} says in no readable way which network it belongs to: {info!r}")
    return tensors, info


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], *, what: str) -> None:
    """Loads weights into a model that has exactly these, by name and shape.

    Args:
        model: changed in place; unchanged if an error is raised.
        tensors: the weights.
        what: how an error calls them, for example the file's name.

    Raises:
        InputError: lists what is missing, what is extra and what has another shape.
    """
    own = model.state_dict()
    missing, extra = own.keys() - tensors.keys(), tensors.keys() - own.keys()
    shapes = [
        f"{name} {list(tensors[name].shape)} instead of {list(own[name].shape)}"
        for name in sorted(own.keys() & tensors.keys())
        if own[name].shape != tensors[name].shape
    ]
    problems = [
        f"{len(names)} {kind} ({_some(sorted(names))})"
        for kind, names in (("missing", missing), ("extra", extra), ("of another shape", shapes))
        if names
    ]
    if problems:
        raise InputError(f"{what} belongs to another network: " + "; ".join(problems))
    with torch.no_grad():
        model.load_state_dict(dict(tensors))


def _some(names: list[str], most: int = 5) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
