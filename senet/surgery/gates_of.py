"""Finds the gates of a network: one for each gated map, whoever wrote it."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from senet.blocks.stages import Recalibrate
from senet.errors import InputError
from senet.surgery.chains import holds_tensors
from senet.surgery.hosts import Walk, path_of
from senet.surgery.report import has_report
from senet.surgery.sites import ONE_PIXEL, Gated, find
from senet.surgery.swap import Rewritten, give_back
from senet.surgery.trace import Traced, example_inputs

__all__ = ["GateSite", "Tapped", "find_gates", "gates_and_left"]

Reasons = list[tuple[str, str]]  # by path


@dataclass(frozen=True)
class Tapped:
    """A forward in which gates are written down that no module gives.

    Attributes:
        graph: the forward, in which each such gate goes through its listeners.
        listeners: of each such gate: called with it, (N, C, ...), one after the other; each may return another for
            the next.
    """

    graph: fx.Graph
    listeners: list[list[Callable[[Tensor], Tensor | None]]] = field(default_factory=list)

    def tap(self, gated: Gated) -> int:
        """Sends a gate through listeners on the way to its product, and nowhere else; which of the gates it is."""
        listeners: list[Callable[[Tensor], Tensor | None]] = []

        def tap(gate: Tensor) -> Tensor:
            for listener in listeners:
                heard = listener(gate)
                gate = gate if heard is None else heard
            return gate

        with self.graph.inserting_after(gated.gate):
            heard = self.graph.call_function(tap, (gated.gate,))
        (*gated.expands, gated.product)[0].replace_input_with(gated.gate, heard)
        self.listeners.append(listeners)
        return len(self.listeners) - 1


@dataclass(frozen=True)
class GateSite:
    """Where the gate of one map is computed.

    Attributes:
        name: the site's name, unique in its model: that of the module in which the gate is computed, and of a second
            gate in it ``:2``.
        module: the module whose output is the gate, or, for a tapped one, in whose forward it is written down.
        channels: channels of the map; None for blocks of ours, whose gates say so themselves.
        tapped: that forward; None for a gate that is a module's output.
        index: which of the tapped gates it is.
    """

    name: str
    module: nn.Module
    channels: int | None = None
    tapped: Tapped | None = None
    index: int = 0


def find_gates(model: nn.Module, example: Sequence[Any] | None = None) -> list[GateSite]:
    """The gates of a model, in the order of its modules.

    Blocks of ours are known. Others are found by what they compute (:mod:`senet.surgery.sites`), in a copy in float64
    that runs once; a model whose modules are all ours or PyTorch's holds no others, and is not run.

    Args:
        model: any module; it is left alone.
        example: what its forward takes, for one run without gradients; None: images of a size that it takes.

    Raises:
        InputError: the model is compiled, scripted or folded, has no gated map, or does not take the example.
    """
    return gates_and_left(model, example)[0]


def gates_and_left(model: nn.Module, example: Sequence[Any] | None = None) -> tuple[list[GateSite], Reasons]:
    """:func:`find_gates`, and the products that look like gated maps and are none of them: each by path, and why.

    Raises:
        InputError: as :func:`find_gates`.
    """
    _check(model)
    ours = [
        GateSite(name or type(block).__name__, block.gate)
        for name, block in model.named_modules()
        if isinstance(block, Recalibrate)
    ]
    others, left, unread = ([], [], []) if _holds_ours_alone(model) else _others(model, example)
    if not ours and not others:
        told = "; ".join(f"{path}: {reason}" for path, reason in (left + unread)[:3])
        raise InputError(
            f"{type(model).__name__} has no map that is gated by its own global average{told and f' ({told})'}; "
            "give a network with squeeze-and-excitation"
        )
    return _in_order(model, ours + others), left


def _check(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError("the model is a ScriptModule, whose gates cannot be had; give the model before scripting")
        if hasattr(module, "_orig_mod") or module._compiled_call_impl is not None:
            raise InputError("the model is compiled and calls no hooks; give the model that was compiled")
        if has_report(module, "folded"):
            raise InputError("the model is folded, its gates among other layers; give the model that was folded")
        if isinstance(module, nn.DataParallel) and len(module.device_ids) > 1:
            raise InputError("the model runs as copies on several devices; give and run the .module of DataParallel")


def _holds_ours_alone(model: nn.Module) -> bool:
    """Whether all gates of a model are those of its blocks: no module of ours or PyTorch's has another."""
    return all(type(module).__module__.startswith(("senet.", "torch.nn.")) for module in model.modules())


def _others(model: nn.Module, example: Sequence[Any] | None) -> tuple[list[GateSite], Reasons, Reasons]:
    """The gates that are not of our blocks; products that are none of them; modules whose forward was not read."""
    bare = model
    if any(isinstance(module, Rewritten) for module in model.modules()):  # by a fuse, or by somebody who listens
        bare = copy.deepcopy(model)
        for module in bare.modules():
            if isinstance(module, Rewritten):
                give_back(module)
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
        walk = Walk(bare, example)
        sites, left = _walked(walk)
        if any(reason == ONE_PIXEL for _, reason in left):
            with suppress(InputError):  # a model of images of one size: then what is left is said
                walk = Walk(bare, _larger(model, example))
                sites, left = _walked(walk)
    paths = {module: path for path, module in bare.named_modules()}
    unread = [(paths[m] or "the model", why) for m, why in walk.untraceable.items() if next(m.children(), None)]
    return [replace(site, module=model.get_submodule(paths[site.module])) for site in sites], left, unread


def _larger(model: nn.Module, example: Sequence[Any] | None) -> Sequence[Any]:
    """An example whose images have 256 pixels or more."""
    if example is None:
        return next(example_inputs(model, smallest=256))
    return [
        a.repeat(1, 1, *(-(-256 // side) for side in a.shape[2:])) if isinstance(a, Tensor) and a.ndim == 4 else a
        for a in example
    ]


def _walked(walk: Walk) -> tuple[list[GateSite], Reasons]:
    for module in walk.model.modules():
        if isinstance(module, Recalibrate):
            walk.mark(module)
    sites: list[GateSite] = []
    for module in walk.modules():
        traced = walk.traced(module)
        found = [site for site in find(traced) if isinstance(site, Gated)] if traced is not None else []
        if traced is not None and found:
            sites += _of_one(walk, traced, found)
            walk.mark(module)
    return sites, list(dict.fromkeys(walk.refused()))


def _of_one(walk: Walk, traced: Traced, found: Sequence[Gated]) -> Iterator[GateSite]:
    """The sites of one module."""
    tapped = Tapped(traced.graph)
    for gated in found:
        name, channels = path_of(gated, walk.paths[traced.module]), traced.values[gated.u].shape[1]
        giver = _given_by(walk.model, traced, gated)
        if giver is not None:
            yield GateSite(name, giver, channels)
        else:
            yield GateSite(name, traced.module, channels, tapped, tapped.tap(gated))


def _given_by(model: nn.Module, traced: Traced, gated: Gated) -> nn.Module | None:
    """The module whose output is the gate and nothing but this gate, if there is one."""
    values, node, users = traced.values, gated.gate, {gated.product, *gated.expands}
    if values[node].numel() != values[gated.u].shape[:2].numel():
        return None
    while all(user in users for user in node.users if holds_tensors(values[user])):
        if node.op == "call_module":
            module = traced.module.get_submodule(str(node.target))
            return module if _runs_once(model, traced, module) else None
        before = [n for n in node.all_input_nodes if isinstance(values[n], Tensor)]
        if len(before) != 1 or not torch.equal(values[before[0]].flatten(), values[node].flatten()):
            return None
        node, users = before[0], {node}
    return None


def _runs_once(model: nn.Module, traced: Traced, module: nn.Module) -> bool:
    """Whether a module runs once whenever the traced one does: it is called once there, and lies nowhere else."""
    calls = [n for n in traced.graph.nodes if n.op == "call_module" and traced.module.get_submodule(n.target) is module]
    places = Counter(m for _, m in model.named_modules(remove_duplicate=False))
    return len(calls) == 1 and places[module] == places[traced.module]


def _in_order(model: nn.Module, sites: Sequence[GateSite]) -> list[GateSite]:
    """Sites in the order of the model's modules, with names of their own."""
    order = {path: index for index, (path, _) in enumerate(model.named_modules())}
    seen: Counter[str] = Counter()
    named = []
    for site in sorted(sites, key=lambda site: order.get(site.name, 0)):
        seen[site.name] += 1
        count = seen[site.name]
        named.append(site if count == 1 else replace(site, name=f"{site.name}:{count}"))
    return named
