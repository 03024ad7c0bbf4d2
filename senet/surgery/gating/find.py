"""Finds the gates of a network: one for each gated map, whoever wrote it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from senet.blocks.stages import Recalibrate
from senet.errors import InputError
from senet.surgery.graph.gates import ONE_PIXEL, Gated, Key, find
from senet.surgery.graph.install import Rewritten, give_back
from senet.surgery.graph.ledger import Ledger
from senet.surgery.graph.modules import refuse
from senet.surgery.graph.ops import is_map, tensor_inputs, users_of_tensor
from senet.surgery.graph.run import copied, example_inputs
from senet.surgery.graph.walk import Reading, Walk
from senet.surgery.graph.written import Variant

__all__ = ["GateSite", "Tapped", "find_gates", "gates_and_left"]

Reasons = list[tuple[str, str]]  # by path
Listener = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True, eq=False)
class Tapped:
    """Forwards of a module in which gates are written down that no module gives.

    Attributes:
        variants: the forwards, in which each such gate goes through its listeners.
        listeners: of each such gate: called with it, (N, C, ...), one after the other; each may return another for
            the next.
    """

    variants: list[Variant] = field(default_factory=list)
    listeners: dict[Key, list[Listener]] = field(default_factory=dict)

    def tap(self, graph: fx.Graph, gated: Gated) -> None:
        """Sends a gate through its listeners on the way to its product, and nowhere else."""
        listeners = self.listeners.setdefault(gated.key, [])

        def tap(gate: Tensor) -> Tensor:
            for listener in listeners:
                heard = listener(gate)
                gate = gate if heard is None else heard
            return gate

        with graph.inserting_after(gated.gate):
            heard = graph.call_function(tap, (gated.gate,))
        (*gated.expands, gated.product)[0].replace_input_with(gated.gate, heard)


@dataclass(frozen=True, eq=False)
class GateSite:
    """Place where the gate of one map is computed.

    Attributes:
        name: the site's name, unique in its model: that of the module in which the gate is computed, and of a second
            gate in it ``:2``.
        module: the module whose output is the gate, or, for a tapped one, in whose forward it is written down.
        channels: channels of the map; None for blocks of ours, whose gates say so themselves.
        tapped: that forward; None for a gate that is a module's output.
        key: names the gated map, of a gate that others wrote.
    """

    name: str
    module: nn.Module
    channels: int | None = None
    tapped: Tapped | None = None
    key: Key = ("", 0)


def find_gates(model: nn.Module, example: Sequence[Any] | None = None) -> list[GateSite]:
    """Returns the gates of a model, in the order of its modules.

    Blocks of ours are known. Others are found by what they compute (:mod:`senet.surgery.graph.gates`), in a copy in
    float64 that runs once; a model whose modules are all ours or PyTorch's holds no others, and is not run.

    Args:
        model: any module; it is left alone.
        example: what its forward takes, for one run without gradients; None: images of a size that it takes.

    Raises:
        InputError: the model is scripted, compiled, wrapped, lazy, on the meta device or folded, has no gated map, or
            does not take the example.
    """
    return gates_and_left(model, example)[0]


def gates_and_left(model: nn.Module, example: Sequence[Any] | None = None) -> tuple[list[GateSite], Reasons]:
    """:func:`find_gates`, and the gated maps whose gates cannot be had: each by path, and why.

    Raises:
        InputError: as :func:`find_gates`.
    """
    refuse(model, "record", fused=True, recorded=True)
    ours = [
        GateSite(name or type(block).__name__, block.gate)
        for name, block in model.named_modules()
        if isinstance(block, Recalibrate)
    ]
    others, left = ([], []) if _holds_ours_alone(model) else _others(model, example)
    if not ours and not others:
        told = "; ".join(f"{path}: {reason}" for path, reason in left[:3])
        raise InputError(
            f"{type(model).__name__} has no map that is gated by its own global average{told and f' ({told})'}; "
            "give a network with squeeze-and-excitation"
        )
    return _in_order(model, ours + others), left


def _holds_ours_alone(model: nn.Module) -> bool:
    """Whether all gates of a model are those of its blocks: no module of ours or PyTorch's has another."""
    return all(type(module).__module__.startswith(("senet.", "torch.nn.")) for module in model.modules())


def _others(model: nn.Module, example: Sequence[Any] | None) -> tuple[list[GateSite], Reasons]:
    """The gates that are not of our blocks, and those that cannot be had."""
    bare = model
    if any(isinstance(module, Rewritten) for module in model.modules()):  # by a fuse, or by somebody who listens
        bare = copied(model)
        for module in bare.modules():
            if isinstance(module, Rewritten):
                give_back(module)
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
        walk = Walk(bare, example, modes=(False, True))
        sites, left = _walked(walk)
        if any(reason == ONE_PIXEL for _, reason in left):
            with suppress(InputError):  # a model of images of one size: then what is left is said
                walk = Walk(bare, _larger(model, example), modes=(False, True))
                sites, left = _walked(walk)
    paths = {module: path for path, module in bare.named_modules()}
    return [replace(site, module=model.get_submodule(paths[site.module])) for site in sites], left


def _larger(model: nn.Module, example: Sequence[Any] | None) -> Sequence[Any]:
    """An example whose images have 256 pixels or more."""
    if example is None:
        return next(example_inputs(model, smallest=256))
    return [a.repeat(1, 1, *(-(-256 // side) for side in a.shape[2:])) if is_map(a) else a for a in example]


def _walked(walk: Walk) -> tuple[list[GateSite], Reasons]:
    ledger = Ledger("recorded", walk)
    for module in walk.paths:
        if isinstance(module, Recalibrate):
            ledger.take_all(module)
            walk.mark(module)
    sites: list[GateSite] = []
    for module in walk.hosts():
        readings = walk.read(module)
        if any(find(reading).gated for reading in readings):
            sites += _of_one(walk, readings, ledger)
            walk.mark(module)
    return sites, ledger.closed().left


def _of_one(walk: Walk, readings: Sequence[Reading], ledger: Ledger) -> Iterator[GateSite]:
    """The sites of one module."""
    tapped, seen = Tapped(), set[Key]()
    given = {s.key: _given_by(walk, r, s) for r in readings for s in find(r).gated}
    for reading in readings:
        gated = find(reading).gated
        for site in gated:
            giver = given[site.key]
            if giver is None:
                tapped.tap(reading.graph, site)
            if site.key not in seen:
                seen.add(site.key)
                ledger.take(site.key, site.place, "recorded")
                name, channels = site.place or "the model", reading.values[site.u].shape[1]
                if giver is not None:
                    yield GateSite(name, giver, channels, key=site.key)
                else:
                    yield GateSite(name, reading.module, channels, tapped, site.key)
        # Calls without a gate are among the variants too, so that they are known to miss none; not where the other mode
        # of the same call has one, as where something is dropped before the pool: then nothing is known of it.
        others = [find(r).gated for r in readings if r is not reading and r.call == reading.call]
        if not gated and any(others):
            continue
        tapped.variants.extend(Variant(reading.call, guards, reading.graph) for guards in reading.guards())


def _given_by(walk: Walk, reading: Reading, gated: Gated) -> nn.Module | None:
    """The module whose output is the gate and nothing but this gate, if there is one."""
    values, node, users = reading.values, gated.gate, {gated.product, *gated.expands}
    if values[node].numel() != values[gated.u].shape[:2].numel():
        return None
    while all(user in users for user in users_of_tensor(node, values)):
        if node.op == "call_module":
            module = reading.module.get_submodule(str(node.target))
            heard = not isinstance(module, torch.jit.ScriptModule)  # which takes no hooks
            return module if heard and _runs_once(walk, reading, module) else None
        before = tensor_inputs(node, values)
        if len(before) != 1 or not torch.equal(values[before[0]].flatten(), values[node].flatten()):
            return None
        node, users = before[0], {node}
    return None


def _runs_once(walk: Walk, reading: Reading, module: nn.Module) -> bool:
    """Whether a module runs once whenever the one that was read does, and lies nowhere else."""
    calls = [
        n
        for n in reading.graph.nodes
        if n.op == "call_module" and reading.module.get_submodule(str(n.target)) is module
    ]
    places = Counter(m for _, m in walk.model.named_modules(remove_duplicate=False))
    return len(calls) == 1 and places[module] == places[reading.module]


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
