"""Places where blocks are attached: by structure, by name, or by a function of name and module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from senet.errors import InputError, did_you_mean
from senet.surgery.attaching.graphs import parts
from senet.surgery.attaching.maps import Maps
from senet.surgery.attaching.stages import stage_ends
from senet.surgery.attaching.structure import CONVOLUTIONS, Found, convolutions, residual_ends

__all__ = ["Place", "Where", "find_places"]

Where = str | Sequence[str] | Callable[[str, nn.Module], bool]

_STRUCTURES = ("residual", "stages", *CONVOLUTIONS)


@dataclass(frozen=True)
class Place:
    """A module behind which a block goes, and the channels of its map."""

    path: str
    channels: int


def find_places(
    model: nn.Module, where: Where, example: Sequence[Any] | None
) -> tuple[list[Place], list[tuple[str, str]]]:
    """The places for blocks, and what was left alone and why, both in the order of the model's modules.

    Args:
        model: any module; it is not touched.
        where: as in :func:`~senet.surgery.attaching.attach.attach`.
        example: what the model's forward takes; None: images of a size that it takes.

    Raises:
        InputError: nothing is there, or, of modules that were named, one cannot take a block.
    """
    named = None if isinstance(where, str) and where in _STRUCTURES else _named(model, where)
    maps = Maps(model, example)
    if named is not None:
        paths, left = _all(maps, named), list[tuple[str, str]]()
    else:
        assert isinstance(where, str)
        paths, left = _possible(maps, _found(maps, where))
        if not paths:
            raise InputError(_nothing(model, where, left))
    maps.rehearse(paths)
    return [Place(path, maps.channels(path)) for path in paths], left


def _named(model: nn.Module, where: object) -> list[str]:
    """The modules that patterns or a function choose, each once."""
    if callable(where):
        chosen = [path for path, module in model.named_modules() if where(path, module)]
        if not chosen:
            raise InputError(f"where= chose none of the {len(list(model.modules()))} modules of {type(model).__name__}")
        return chosen
    patterns = [where] if isinstance(where, str) else where
    if not (isinstance(patterns, Sequence) and patterns and all(isinstance(p, str) for p in patterns)):
        raise InputError(
            f"where is {where!r}; accepted: {', '.join(map(repr, _STRUCTURES))}, module names with * and ?, a list of "
            "them, or a function of name and module"
        )
    modules = {path: module for path, module in model.named_modules(remove_duplicate=False) if path}
    chosen_modules: dict[nn.Module, str] = {}
    for pattern in patterns:
        matching = [path for path in modules if fnmatchcase(path, pattern)]
        if not matching and pattern in _STRUCTURES:
            raise InputError(f"where is {where!r}, but a structure stands alone; give where={pattern!r}")
        if not matching:
            known = [*_STRUCTURES, *modules]
            raise InputError(f"no module of {type(model).__name__} is called {pattern!r}{did_you_mean(pattern, known)}")
        for path in matching:
            chosen_modules.setdefault(modules[path], path)
    first = {module: path for path, module in model.named_modules()}
    return sorted((first[m] for m in chosen_modules), key=list(first.values()).index)


def _all(maps: Maps, named: Sequence[str]) -> list[str]:
    """Modules that were named, if all of them can take a block."""
    givers: dict[tuple[int, int], str] = {}
    for path in named:
        if reason := maps.refusal(path):
            raise InputError(f"{path or 'the model'} cannot take a block: {reason}")
        for given in maps.calls[path]:
            if (other := givers.setdefault(given.value, path)) != path:
                raise InputError(f"{other} and {path} give the same map, which takes one block; name one of them")
    return list(named)


def _found(maps: Maps, where: str) -> Iterator[Found]:
    """Places by structure; none of those modules that also give other maps."""
    graphs = list(parts(maps))
    if where == "stages":
        found = list(stage_ends(graphs))
        last = [place.path for place in found if maps.is_channels_last(place.path)]
        if last:  # then modules with channels second lie between the stages, and end none
            reason = f"the stage's end cannot be told, as {last[0]}, another's, has channels last"
            found = [place if place.path in last else Found(place.path, reason) for place in found]
    elif where == "residual":
        found = [place for part in graphs for place in residual_ends(part)]
    else:
        found = [place for part in graphs for place in convolutions(part, CONVOLUTIONS[where])]
    given = Counter(path for part in graphs for node in part.nodes for path in part.output_of(node))
    for place, times in Counter(found).items():
        elsewhere = place.reason is None and given[place.path] > times
        yield (Found(place.path, "it is called elsewhere too, where a block would be as well") if elsewhere else place)


def _possible(maps: Maps, found: Iterable[Found]) -> tuple[list[str], list[tuple[str, str]]]:
    """Splits places found by structure into those that can take a block, and the others with the reason."""
    paths, left = [], []
    for place in found:
        reason = place.reason or maps.refusal(place.path)
        if reason is None:
            paths.append(place.path)
        else:
            left.append((place.path, reason))
    return paths, left


def _nothing(model: nn.Module, where: str, left: Sequence[tuple[str, str]]) -> str:
    reasons = [f"{path}: {reason}" for path, reason in left]
    told = "; ".join(reasons[:3]) + (f"; and {len(reasons) - 3} more" if len(reasons) > 3 else "")
    return (
        f"{type(model).__name__} has no place for a block by where={where!r}{told and f' ({told})'}; "
        "give where= another structure, or names of modules"
    )
