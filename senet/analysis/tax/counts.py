"""Exact counts of a network that is not run for real: bytes, passes, launches, memory kept.

Networks are counted on tensors without memory that have a device, a dtype and a layout like the real ones, so that a
large batch costs nothing. The optimizer's step, which sees no map, is not counted.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from senet.analysis.kept import Kept, kept
from senet.analysis.operators import elements
from senet.analysis.tax.arms import Arm, Setting, batch_for, loss_of
from senet.analysis.traffic import Moved, Row, rows_of
from senet.errors import InputError
from senet.surgery.gating.strip import RemovedGate

__all__ = ["Counted", "Extra", "Site", "count", "extra", "kept_by", "sites_of"]


@dataclass(frozen=True)
class Site:
    """A gated map.

    Attributes:
        path: the module in whose forward it is gated; ``""`` for the network itself.
        shape: of the map of one image: channels, height, width.
        elements: of the whole batch's map; a pass over it reads or writes so many.
    """

    path: str
    shape: tuple[int, ...]
    elements: int


@dataclass(frozen=True)
class Extra:
    """Excess of one network's counts over another's, at one site or in total.

    Attributes:
        forward: passes over the site's own map in forward.
        backward: likewise in backward.
        moved: bytes read and written.
        launches: operators.
        kept: bytes that autograd keeps for backward; None in inference.
    """

    forward: float
    backward: float
    moved: int
    launches: int
    kept: int | None


@dataclass(frozen=True)
class Counted:
    """The counts of one network.

    Attributes:
        rows: what each operator moved for each module; wide are tensors of exactly the shape of the site's own map
            (where that is one pixel, its squeeze and its gate are among them).
        kept: what autograd keeps; None in inference.
    """

    rows: tuple[Row, ...]
    kept: Kept | None

    @property
    def total(self) -> Moved:
        """Traffic of the whole network."""
        return sum((row.moved for row in self.rows), Moved())


def sites_of(model: nn.Module, gates: Sequence[RemovedGate], setting: Setting) -> list[Site]:
    """The gated maps of a network at the setting's size, in the order of ``gates``.

    Raises:
        InputError: the network does not take images of that size.
    """
    shapes: dict[RemovedGate, torch.Size] = {}
    with _without_memory(model, replace(setting, dtype="float32")) as (fake, x, _):  # as the model still is
        for gate in gates:

            def given(_: nn.Module, args: tuple[Any, ...], gate: RemovedGate = gate) -> None:
                shapes.setdefault(gate, args[0].shape)

            def made(_: nn.Module, _args: Any, out: Tensor, gate: RemovedGate = gate) -> None:
                shapes.setdefault(gate, out.shape)

            if gate.like is None:
                fake.get_submodule(gate.path).register_forward_pre_hook(given)
            else:
                fake.get_submodule(gate.like).register_forward_hook(made)
        try:
            with torch.no_grad():
                fake(x)
        except Exception as error:  # whatever a network says to images that it does not take
            first = (str(error).splitlines() or [""])[0]
            raise InputError(
                f"{type(model).__name__} does not take images of shape {tuple(x.shape)} ({first}); give another size"
            ) from error
    return [Site(gate.path, tuple(shapes[gate][1:]), shapes[gate].numel()) for gate in gates]


def count(arm: Arm, sites: Sequence[Site], setting: Setting) -> Counted:
    """Counts a network that runs operator by operator; a step of training or a forward.

    Args:
        arm: the network.
        sites: of the network that it is or is the twin of; passes are counted over their maps.
        setting: what it is for.
    """
    with _without_memory(arm.module, setting) as (fake, x, labels):

        def forward() -> object:
            return loss_of(fake, x, labels, setting) if setting.train else fake(x)

        def step() -> None:
            out = forward()
            if setting.train:
                assert isinstance(out, Tensor)
                out.backward()

        near = _nearest([site.path for site in sites])

        def is_wide(module: str, t: Tensor) -> bool:
            at = near(module)
            return at is not None and _is_map_of(sites[at], t)

        with torch.set_grad_enabled(setting.train):
            held = kept(forward, fake, x, labels) if setting.train else None
            return Counted(rows_of(step, fake, is_wide), held)


def _is_map_of(site: Site, t: Tensor) -> bool:
    """Whether a tensor has the shape of a site's map, flattened over it or not; weights may have as many elements."""
    channels, *pixels = site.shape
    images = site.elements // (channels * math.prod(pixels))
    return t.shape[:2] == (images, channels) and elements(t) == site.elements


def kept_by(arm: Arm, setting: Setting) -> int:
    """The bytes that autograd keeps of a compiled network's forward, which runs for that."""
    x, labels = batch_for(arm.module, setting)
    owned = (*arm.module.parameters(), *arm.module.buffers())
    return kept(lambda: loss_of(arm.call, x, labels, setting), None, x, labels, *owned).bytes


def extra(mine: Counted, other: Counted, sites: Sequence[Site]) -> list[Extra]:
    """Returns the excess of one network over another at each site, in the order of ``sites``.

    What a module moves or keeps belongs to the site whose path shares the longest beginning with its own. Where
    several do, or none does, it belongs to none; what both networks do cancels.
    """
    near = _nearest([site.path for site in sites])
    found = []
    for at, site in enumerate(sites):

        def moved(one: Counted, backward: bool | None, at: int = at) -> Moved:
            own = (r.moved for r in one.rows if backward in (None, r.backward) and near(r.module) == at)
            return sum(own, Moved())

        def held(one: Counted, at: int = at) -> int:
            assert one.kept is not None
            return sum(h.bytes for h in one.kept.held if near(h.module) == at)

        passes = [(moved(mine, b).wide - moved(other, b).wide) / site.elements for b in (False, True)]
        ours, theirs = moved(mine, None), moved(other, None)
        bytes_moved = ours.read + ours.written - theirs.read - theirs.written
        more_kept = None if mine.kept is None else held(mine) - held(other)
        found.append(Extra(passes[0], passes[1], bytes_moved, ours.launches - theirs.launches, more_kept))
    return found


def _nearest(paths: Sequence[str]) -> Callable[[str], int | None]:
    """A function that says which path alone shares the most parts with a module's, from the start."""

    @cache
    def nearest(module: str) -> int | None:
        shared = [_common(module.split("."), path.split(".")) for path in paths]
        most = max(shared)
        return shared.index(most) if shared.count(most) == 1 else None

    return nearest


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    length = 0
    for mine, its in zip(a, b, strict=False):
        if mine != its:
            break
        length += 1
    return length


@contextmanager
def _without_memory(model: nn.Module, setting: Setting) -> Iterator[tuple[nn.Module, Tensor, Tensor]]:
    """A copy of a network, a batch and its labels, with shapes, dtypes and devices, and no values."""
    x, labels = batch_for(model, setting)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:  # constants of a module may be no buffers
        memo: dict[int, Any] = {id(b): mode.from_tensor(b) for b in model.buffers()}
        for p in model.parameters():
            memo[id(p)] = nn.Parameter(mode.from_tensor(p).detach(), requires_grad=p.requires_grad)
        yield copy.deepcopy(model, memo), mode.from_tensor(x), mode.from_tensor(labels)
