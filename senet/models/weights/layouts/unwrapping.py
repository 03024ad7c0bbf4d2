"""The tensors of a network out of what they are wrapped in: entries of a checkpoint, and prefixes of names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from senet.errors import InputError, did_you_mean, with_article
from senet.models.weights.torch_file import StandIn

__all__ = ["part_hint", "take_entry", "without_wrappers"]

Taken = tuple[dict[str, Tensor], tuple[str, ...]]  # tensors, and in words what was unwrapped

# What people call weights; one name inside another counts too: model, and in it state_dict
_ENTRIES = (
    *("state_dict", "state_dict_ema", "model", "model_ema", "model_state_dict", "net", "network", "weights", "weight"),
    *("params", "params_ema", "model_state", "model_weights", "model_dict", "net_dict", "net_state_dict", "ema"),
    *("ema_state_dict", "ema_model", "ema_weights", "best_state_dict", "best_model", "module", "backbone", "encoder"),
    *("state", "parameters", "checkpoint", "classifier"),
)
_ELSE = {"optimizer", "optimizers", "optim", "opt", "optimizer_states", "optimizer_state_dict", "lr_scheduler"}
_ANEW = "Save model.state_dict() anew where it comes from"
_DEEP = 4  # entries in entries

# Names of modules that wrap a network: DataParallel, Lightning and people's own. Any other name that all tensors have
# in common goes too where a layer's name and a parameter's still follow.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.")
_ROLES = ("student.", "teacher.", "ema.", "ema_model.", "online_model.", "encoder_q.", "encoder_k.")
# Wrappers that may be around any module: of torch.compile, of FSDP and of activation checkpointing
_ANYWHERE = re.compile(r"(?<=\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# The only names that begin all tensors of a network without its classifier: VGG's and pytorchcv's, and mmpretrain's
_OWN = re.compile(r"features\.|backbone\.layer\d+\.\d+\.se_layer\.")
_COUNTERS = {"n_averaged", "steps", "step", "num_updates", "decay", "initted"}  # of averages of weights


def take_entry(content: Any, entry: str | None, path: Path) -> Taken:
    """The tensors by name in the content of a checkpoint.

    Args:
        content: as read; mappings in mappings.
        entry: the one to take, ``"state_dict_ema"``, or ``"model.state_dict"`` for one in another; where there is
            only one, the first part of the names to take. None: the whole, or the only one that there is.
        path: of the file, for errors.

    Raises:
        InputError: there is none, or there are several and none is named; no such entry, or it holds something else.
    """
    content, notes = _without_notes(content)
    if _is_state(content):
        return _part(content, entry, path) if entry is not None else (dict(content), notes)
    found = dict(_states(content))
    if entry is None:
        name = _only(found, content, path)
    else:
        inside = [name for name in found if name == entry or name.startswith(f"{entry}.")]
        if not inside and len(found) == 1 and not _has(content, entry):
            (whole,) = found
            if any(name.startswith(f"{entry}.") for name in found[whole]):
                part, taken = _part(found[whole], entry, path)
                return part, (f"entry {whole!r}", *taken)
        if not inside:
            raise InputError(f"{path}: entry {entry!r} {_instead(content, entry)}{did_you_mean(entry, found)}")
        name = _one_of(inside, path)
    return found[name], (f"entry {name!r}",)


def without_wrappers(tensors: Mapping[str, Tensor]) -> Taken:
    """Takes off what names of tensors begin with only because something is wrapped around the network."""
    taken: tuple[str, ...] = ()
    while prefix := _prefix(tensors):
        counters = [name for name in tensors if not name.startswith(prefix)]
        taken += (*(f"{name!r} left out" for name in counters), f"prefix {prefix!r}")
        tensors = {name.removeprefix(prefix): t for name, t in tensors.items() if name not in counters}
    inner = {wrapper for name in tensors for wrapper in _ANYWHERE.findall(name)}
    shorter = {_ANYWHERE.sub("", name): tensor for name, tensor in tensors.items()}
    if inner and len(shorter) == len(tensors):
        tensors, taken = shorter, (*taken, *(f"{wrapper!r} in names" for wrapper in sorted(inner)))
    return dict(tensors), taken


def part_hint(tensors: Mapping[str, Tensor]) -> str:
    """The way out where a network and more are in one state_dict, as the end of a sentence; empty where it is none."""
    parts = _parts(tensors)
    inside = [part for part in parts if f"{part}." in (*_PREFIXES, *_ROLES)]
    if not inside or len(parts) < 2:
        return ""
    held = ", ".join(f"{part} ({count})" for part, count in list(parts.items())[:6])
    return (
        f"; names begin with {held}: if one of them is the network and this is a file of torch.save, "
        f"name it by entry={inside[0]!r} (`senet convert --entry {inside[0]}`)"
    )


def _parts(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Counts the tensors by the first part of their names, the most frequent first."""
    return dict(Counter(name.partition(".")[0] for name in tensors).most_common())


def _prefix(tensors: Mapping[str, Tensor]) -> str:
    """Returns the wrapper's prefix that all names begin with; empty where there is none."""
    names = [name for name, tensor in tensors.items() if name not in _COUNTERS or tensor.ndim]
    if not names or any(_OWN.match(name) for name in names):
        return ""
    first = names[0].partition(".")[0] + "."
    if not all(name.startswith(first) for name in names):
        return ""
    return first if first in _PREFIXES or all(name.count(".") > 1 for name in names) else ""


def _is_state(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items())
    )


def _has(content: Any, entry: str) -> bool:
    return isinstance(content, Mapping) and entry in content


def _without_notes(content: Any) -> tuple[Any, tuple[str, ...]]:
    """A state_dict less the numbers and texts that people put among its tensors; anything else as it is."""
    if not isinstance(content, Mapping) or not any("." in str(k) for k, v in content.items() if isinstance(v, Tensor)):
        return content, ()
    notes = [key for key, value in content.items() if value is None or isinstance(value, (bool, int, float, str))]
    rest = {key: value for key, value in content.items() if key not in notes}
    return (rest, tuple(f"{name!r} left out" for name in notes)) if _is_state(rest) else (content, ())


def _states(content: Any, within: str = "", depth: int = _DEEP) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """All state_dicts in mappings, lists and tuples, by the dotted path of their entry."""
    if isinstance(content, (list, tuple)):
        content = {str(index): value for index, value in enumerate(content)}
    if not isinstance(content, Mapping) or not depth:
        return
    for key, value in content.items():
        if not isinstance(key, str) or key in _ELSE:
            continue
        if _is_state(value):
            yield within + key, dict(value)
        else:
            yield from _states(value, f"{within}{key}.", depth - 1)


def _only(found: Mapping[str, Mapping[str, Tensor]], content: Any, path: Path) -> str:
    """The only entry that is known to hold weights; if there is none, the only one that holds layers' parameters."""
    known = [name for name in found if set(name.split(".")) <= set(_ENTRIES)]
    if known:
        return _one_of(known, path)
    layered = [name for name, state in found.items() if any("." in key for key in state)]
    if layered:
        return _one_of(layered, path)
    raise InputError(f"{path} {_nothing(content)}")


def _one_of(names: list[str], path: Path) -> str:
    if len(names) > 1:
        raise InputError(
            f"{path} holds weights as {' and '.join(map(repr, names))}; name the entry that you want, for example "
            f"entry={names[-1]!r} (`senet convert --entry {names[-1]}`)"
        )
    return names[0]


def _part(state: Mapping[str, Tensor], entry: str, path: Path) -> Taken:
    """The tensors of a plain state_dict whose names begin with an entry."""
    prefix = f"{entry}."
    part = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    if not part:
        near = did_you_mean(entry, _parts(state))
        raise InputError(
            f"{path} is one state_dict of {len(state)} tensors without entries, and none of their names begins with "
            f"{prefix!r}; leave entry={entry!r} out, or name what some begin with{near}"
        )
    rest = f" ({len(state) - len(part)} others left out)" if len(part) < len(state) else ""
    return part, (f"prefix {prefix!r}{rest}",)


def _instead(content: Any, entry: str) -> str:
    """Describes an entry that holds no tensors by name."""
    return _described(content[entry]) if _has(content, entry) else "is not in the file"


def _nothing(content: Any) -> str:
    """Describes the content of a file that holds no tensors by name."""
    if isinstance(content, StandIn):
        return _described(content)
    if not isinstance(content, Mapping):
        return f"holds {with_article(type(content).__name__)}; accepted: tensors by name (a state_dict)"
    for name in _ENTRIES:
        value = content.get(name)
        if isinstance(value, StandIn) or (isinstance(value, Mapping) and value):
            return f"has no weights to read: entry {name!r} {_described(value)}"
    held = ", ".join(map(str, list(content)[:8])) or "nothing"
    return f"holds {held}; accepted: tensors by name (a state_dict), or those as an entry such as 'state_dict'. {_ANEW}"


def _described(value: object) -> str:
    """Describes a value that holds no tensors by name, and the remedy."""
    if isinstance(value, StandIn):
        return (
            f"holds a pickled object, {value.stands_for}, whose code would have to be run to read it; accepted: "
            f"tensors by name. {_ANEW}"
        )
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(item, Tensor):
                what = item.stands_for if isinstance(item, StandIn) else type(item).__name__
                return f"holds no tensors by name: its {key!r} is {with_article(what)}; accepted: tensors. {_ANEW}"
    return f"holds a value of type {type(value).__name__} and no tensors by name"
