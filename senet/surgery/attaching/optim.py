"""Brings the parameters of attached blocks into an optimizer that was made before, and takes them out again."""

from __future__ import annotations

from collections.abc import Collection
from itertools import takewhile

import torch
from torch import nn

from senet.errors import InputError

__all__ = ["join", "leave"]


def join(optimizer: torch.optim.Optimizer, model: nn.Module, new: Collection[nn.Parameter]) -> None:
    """Puts new parameters into the groups of an optimizer, each into that of the nearest parameter of its kind.

    Nearest are those in the smallest module around both, and of them the nearest in the order of
    ``model.parameters()``; the kinds are vectors and all others. So groups without weight decay, groups by depth, and
    schedules made for the groups go on to work. What the optimizer knows of other parameters is left alone.

    Args:
        optimizer: trains some of the model's other parameters.
        model: holds the new parameters.
        new: the parameters.

    Raises:
        InputError: the optimizer trains no other parameter of the model, or is none that parameters can join; it is
            left alone.
    """
    _check(optimizer)
    groups = {p: group for group in optimizer.param_groups for p in group["params"]}
    order = list(model.named_parameters())
    trained = [(i, name, p) for i, (name, p) in enumerate(order) if p in groups]
    if not trained:
        raise InputError("the optimizer trains no parameter of the model; give optimizer= the one made for it")
    fresh = set(new)
    for i, (name, p) in enumerate(order):
        if p in fresh:
            alike = [each for each in trained if (each[2].ndim > 1) == (p.ndim > 1)] or trained
            nearest = min(alike, key=lambda each: (-_shared(each[1], name), abs(each[0] - i)))
            group = groups[nearest[2]]
            group["params"].append(p)
            if "param_names" in group:
                group["param_names"].append(name)


def _shared(name: str, other: str) -> int:
    """Counts the modules that contain both of two parameters."""
    pairs = zip(name.split("."), other.split("."), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def leave(optimizer: torch.optim.Optimizer, gone: Collection[nn.Parameter]) -> None:
    """Takes parameters out of the groups of an optimizer, with what it knows of them.

    Args:
        optimizer: any; what else it trains is left alone.
        gone: the parameters; those it does not train are passed over.

    Raises:
        InputError: it is no optimizer that parameters can leave.
    """
    _check(optimizer)
    unwanted = set(gone)
    for group in optimizer.param_groups:
        kept = [i for i, p in enumerate(group["params"]) if p not in unwanted]
        for name in ("params", "param_names"):
            if name in group:
                group[name][:] = [group[name][i] for i in kept]
    for p in unwanted:
        optimizer.state.pop(p, None)


def _check(optimizer: object) -> None:
    if not hasattr(optimizer, "param_groups"):
        raise InputError(f"optimizer is {type(optimizer).__name__}; accepted: an optimizer of torch.optim's kind")
    if isinstance(optimizer, torch.optim.LBFGS):
        raise InputError("LBFGS keeps all parameters as one vector, which no others can join or leave; make a new one")
