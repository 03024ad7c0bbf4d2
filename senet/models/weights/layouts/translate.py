"""A state_dict from one layout to another, whole or not at all."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from senet.blocks.aliases import accept_aliases
from senet.errors import InputError, did_you_mean
from senet.models.net import Net
from senet.models.weights.layouts.names import Place, Table
from senet.models.weights.layouts.tables import LAYOUTS

__all__ = ["classifier_keys", "detect", "first_convolution", "from_ours", "to_ours", "training_only"]

_COUNT = "num_batches_tracked"


def detect(state: Mapping[str, Tensor], net: Net) -> str:
    """The layout of a state_dict: the first of those that name most of its tensors.

    Plain ResNets, for example, have the same names in several libraries; ``"senet"``, ours, goes first.

    Args:
        state: a network's tensors.
        net: the network of ours that they are for; on any device.

    Raises:
        InputError: fewer than a tenth of the tensors have a name that any layout knows in this network.
    """
    given = {key for key in state if not key.endswith(_COUNT)}
    shares: dict[str, float] = {}
    for name, layout in LAYOUTS.items():
        table = layout.table(net)
        if table is None:
            continue
        places, homeless = table.places(_keys(net))
        theirs = {place.key for place in places.values() if not place.key.endswith(_COUNT)}
        known = given - _extra(given, table)
        shares[name] = len(theirs & known) / max(len(theirs | known) + len(homeless), 1)
    best = max(shares, key=lambda name: shares[name])
    if shares[best] < 1 and (plain := _with_our_blocks(state)).keys() != state.keys() and "senet" in shares:
        renamed = {key for key in plain if not key.endswith(_COUNT)}
        ours = {key for key in _keys(net) if not key.endswith(_COUNT)}
        if len(renamed & ours) / len(renamed | ours) > shares[best]:
            return "senet"
    if shares[best] < 0.1:
        raise InputError(
            f"the {len(given)} tensors ({_some(given)}) have the names of no layout of this network; known here: "
            f"{', '.join(shares)}; is it another network?"
        )
    return best


def to_ours(state: Mapping[str, Tensor], layout: str, net: Net, *, strict: bool = True) -> dict[str, Tensor]:
    """A state_dict under our names.

    Linear layers become 1x1 convolutions (VGG's first a 7x7 one) where ours are; modules for training only are left
    out (:func:`training_only`); counts of batches, which files of PyTorch before 0.4.1 lack, start at 0.

    Args:
        state: tensors under the layout's names.
        layout: a name from :data:`LAYOUTS`.
        net: the network of ours that they are for; on any device.
        strict: whether the classifier, its classes, and the first convolution's channels must be the network's.

    Raises:
        InputError: the layout has no such network, or tensors are missing, unknown or of another shape: names them.
    """
    table = _table(layout, net)
    places = _places(layout, table, net)
    own = net.state_dict()
    if layout == "senet":
        state = _with_our_blocks(state)
    wanted = places if not strict else {key: place for key, place in places.items() if key in own}
    theirs = {place.key: key for key, place in wanted.items()}
    given = state.keys() - _extra(state, table)
    optional = {places[key].key for key in classifier_keys(net)} if not strict else set()
    missing = {key for key in theirs.keys() - given - optional if not key.endswith(_COUNT)}
    _refuse(layout, missing=missing, unknown=given - theirs.keys())
    found = {}
    for key, place in wanted.items():
        if place.key in given:
            found[key] = _shaped_as(state[place.key], own.get(key))
        elif key.endswith(_COUNT):
            found[key] = torch.tensor(0)
    _check_shapes(found, own, free=() if strict else (*classifier_keys(net), first_convolution(net)), layout=layout)
    return found


def from_ours(state: Mapping[str, Tensor], layout: str, net: Net) -> dict[str, Tensor]:
    """A state_dict of ours under the names of a layout; what :func:`to_ours` undoes.

    Args:
        state: tensors under our names, as ``net.state_dict()``.
        layout: a name from :data:`LAYOUTS`.
        net: the network that they are of; on any device.

    Raises:
        InputError: the layout has no such network, or tensors are missing, unknown or of another shape: names them.
    """
    table = _table(layout, net)
    places, own = _places(layout, table, net), net.state_dict()
    _refuse("senet", missing=own.keys() - state.keys(), unknown=state.keys() - own.keys())
    _check_shapes(state, own, free=(), layout="senet")
    return {
        place.key: state[key].flatten(1) if place.linear and key.endswith(".weight") else state[key]
        for key, place in places.items()
        if key in own
    }


def training_only(state: Mapping[str, Any], layout: str, net: Net) -> tuple[str, ...]:
    """The keys of modules that serve only training and that our network does not have: Inception's ``AuxLogits``."""
    return tuple(sorted(_extra(state, _table(layout, net))))


def classifier_keys(net: Net) -> tuple[str, str]:
    """Our names of the classifier's tensors, whether the network has one or not."""
    return f"{net.head_names[-1]}.weight", f"{net.head_names[-1]}.bias"


def first_convolution(net: Net) -> str:
    """Our name of the weight that takes the image."""
    return next(key for key, value in net.state_dict().items() if value.ndim == 4)


def _keys(net: Net) -> list[str]:
    return list(dict.fromkeys((*net.state_dict(), *classifier_keys(net))))


def _extra(keys: Collection[str], table: Table) -> set[str]:
    return {key for key in keys if key.partition(".")[0] in table.extra}


def _with_our_blocks(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with SE's layers under our names, where a block ``se`` has them under those of others."""
    result = dict(state)
    for prefix in {key[: key.index(".se.") + 4] for key in state if ".se." in key}:
        accept_aliases(None, result, prefix)
    return result


def _table(layout: str, net: Net) -> Table:
    if layout not in LAYOUTS:
        raise InputError(f"no layout is called {layout!r}{did_you_mean(layout, LAYOUTS)}")
    table = LAYOUTS[layout].table(net)
    if table is None:
        others = ", ".join(name for name, other in LAYOUTS.items() if other.table(net) is not None)
        raise InputError(f"layout {layout!r} has no {type(net).__name__}; known here: {others}")
    if unmet := table.unmet(net):
        there = ", ".join(f"{name}={' or '.join(map(str, values))}" for name, values in unmet.items())
        here = ", ".join(f"{name}={getattr(net.config, name)}" for name in unmet)
        raise InputError(
            f"networks of layout {layout!r} have {there}; this one has {here} and would compute something else; "
            f"give {there} to the network{_note(layout)}"
        )
    return table


def _places(layout: str, table: Table, net: Net) -> dict[str, Place]:
    places, homeless = table.places(_keys(net))
    if homeless:
        raise InputError(f"layout {layout!r} has no place for {_some(homeless)} of this network")
    return places


def _shaped_as(tensor: Tensor, own: Tensor | None) -> Tensor:
    """A linear layer's weight as that of the convolution that does the same; anything else as it is."""
    if own is not None and (tensor.ndim, own.ndim) == (2, 4) and tensor.shape[1] == math.prod(own.shape[1:]):
        return tensor.reshape(-1, *own.shape[1:])
    return tensor


def _check_shapes(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], *, free: Collection[str], layout: str
) -> None:
    wrong = [
        f"{key} {list(value.shape)} instead of {list(own[key].shape)}"
        for key, value in state.items()
        if key not in free and value.shape != own[key].shape
    ]
    _refuse(layout, shape=wrong)


def _refuse(
    layout: str, *, missing: Collection[str] = (), unknown: Collection[str] = (), shape: Collection[str] = ()
) -> None:
    """Raises if there is anything."""
    problems = []
    if missing:
        problems.append(f"{len(missing)} missing ({_some(missing)})")
    if unknown:
        problems.append(f"{len(unknown)} unknown ({_some(unknown)}{_nearest(min(unknown), missing)})")
    if shape:
        problems.append(f"{len(shape)} of another shape ({_some(shape)})")
    if problems:
        raise InputError(
            f"the tensors do not fit the network in layout {layout!r}: {'; '.join(problems)}{_note(layout)}"
        )


def _note(layout: str) -> str:
    note = LAYOUTS[layout].note
    return f"; of this layout: {note}" if note else ""


def _nearest(name: str, missing: Collection[str]) -> str:
    """The missing one that a stray name may stand for, or nothing."""
    near = did_you_mean(name, missing, most=1)
    return near if near.startswith("; did") else ""


def _some(names: Collection[str], most: int = 3) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(sorted(names)[:most]) + more
