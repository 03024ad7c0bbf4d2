"""Replacements of a gate while a network runs: numbers, given values, its mean, another image's gate."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from senet.errors import InputError, did_you_mean, with_article

__all__ = ["Edit", "Edits", "by_channel", "first_call"]

Edit = float | Tensor | str | Callable[[Tensor], Tensor]


def first_call(site: str) -> str:
    """A site's name without the number of the call: ``"layer1.0.se#2"`` is the second call of ``"layer1.0.se"``."""
    return site.partition("#")[0]


def by_channel(gate: Tensor) -> Tensor:
    """A gate (N, C, ...) as (N, C): averaged over its map where it differs over positions."""
    per_channel = gate.flatten(1)
    return per_channel if per_channel.shape == gate.shape[:2] else gate.flatten(2).mean(2)


class Edits:
    """Gates to be replaced, and their replacements.

    Args:
        edits: site name or glob -> what :func:`senet.record` takes. A site's own name goes before its first call's,
            and that before globs, of which the first that matches counts.
        sites: the names that there are.

    Attributes:
        given: the edits.

    Raises:
        InputError: a name or glob that no site has, or a value of another kind.
    """

    def __init__(self, edits: Mapping[str, Edit], sites: Collection[str]) -> None:
        if not isinstance(edits, Mapping):
            raise InputError(f"edit is {type(edits).__name__}; accepted: site names or globs, each with its edit")
        for key, value in edits.items():
            if first_call(key) not in sites and not fnmatch.filter(sites, key):
                raise InputError(f"edit: no site is called {key!r}{did_you_mean(key, sites)}")
            _check(key, value)
        self.given = MappingProxyType(dict(edits))

    def tells_calls_apart(self, site: str) -> bool:
        """Whether an edit is of one call of a site, such as ``"layer1.0.se#2"``."""
        return any("#" in key and fnmatch.fnmatchcase(site, first_call(key)) for key in self.given)

    def apply(self, site: str, gate: Tensor) -> Tensor | None:
        """Returns the replacement of a gate (N, C, ...), of the same shape and dtype, or None where the gate stays.

        Raises:
            InputError: values whose shape is not that of the gates.
        """
        keys = [site, first_call(site), *self.given]
        key = next((k for k in keys if k in self.given and (k in keys[:2] or fnmatch.fnmatchcase(site, k))), None)
        return None if key is None else _edited(key, self.given[key], gate)


def _check(key: str, value: Edit) -> None:
    if isinstance(value, str):
        if value not in ("mean", "shuffle"):
            raise InputError(f"edit of {key!r} is {value!r}{did_you_mean(value, ('mean', 'shuffle'))}")
    elif isinstance(value, Tensor):
        if value.ndim not in (1, 2):
            shape = tuple(value.shape)
            raise InputError(f"edit of {key!r}: its shape is {shape}; accepted: (channels,) or (images, channels)")
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"edit of {key!r} is {value!r}; accepted: a finite number")
    elif isinstance(value, bool) or not (isinstance(value, int | float) or callable(value)):
        raise InputError(
            f"edit of {key!r} is {value!r}; accepted: a number, a tensor (channels,) or (images, channels), 'mean', "
            "'shuffle', or a function of a tensor (images, channels)"
        )


def _edited(key: str, edit: Edit, gate: Tensor) -> Tensor:
    if isinstance(edit, str):
        # Drawn on the CPU for every device, so that a seed means the same everywhere.
        return _mean(gate) if edit == "mean" else gate[torch.randperm(len(gate)).to(gate.device)]
    if isinstance(edit, int | float):
        return torch.full_like(gate, edit)
    values = edit if isinstance(edit, Tensor) else edit(by_channel(gate))
    if not isinstance(values, Tensor) or values.shape not in (gate.shape[1:2], gate.shape[:2]):
        given = tuple(values.shape) if isinstance(values, Tensor) else with_article(type(values).__name__)
        raise InputError(f"edit of {key!r}: {given} for gates {tuple(gate.shape[:2])}; give that, or (channels,)")
    spread = values.to(gate.device, gate.dtype).view(-1, gate.shape[1], *(1,) * (gate.ndim - 2)).expand_as(gate)
    return _own(spread)


def _mean(gate: Tensor) -> Tensor:
    return _own(gate.mean(0, keepdim=True).expand_as(gate))


def _own(gate: Tensor) -> Tensor:
    """A copy: the network may write into its gates."""
    return gate.clone(memory_format=torch.contiguous_format)
