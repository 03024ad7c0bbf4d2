"""``strip``: the twin without squeeze-and-excitation, so that any network can be compared with what it would be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from itertools import count
from typing import Any

from torch import fx, nn

from senet.blocks import BLOCKS
from senet.blocks.stages import Recalibrate
from senet.errors import InputError
from senet.surgery.graph.gates import Key, find
from senet.surgery.graph.guards import Guards
from senet.surgery.graph.install import put_in, restore
from senet.surgery.graph.ledger import Ledger
from senet.surgery.graph.modules import refuse, replace, tidy
from senet.surgery.graph.ops import holds_tensors, reaching
from senet.surgery.graph.run import copied
from senet.surgery.graph.walk import Reading, Walk
from senet.surgery.graph.written import Variant, is_there
from senet.surgery.report import forget

__all__ = ["RemovedGate", "strip", "stripped", "without"]

_OURS: tuple[type[nn.Module], ...] = (Recalibrate, *BLOCKS.values())


@dataclass(frozen=True)
class RemovedGate:
    """A gated map that a twin does not have.

    Attributes:
        path: the module in whose forward the map is gated; ``""`` for the model itself.
        like: the module whose output has the map's shape; None: the map is what the module at ``path`` is called with.
    """

    path: str
    like: str | None = None


def strip(model: nn.Module, *, example: Sequence[Any] | None = None) -> nn.Module:
    """Returns a copy of a model in which every gated map is the map itself.

    Gated maps are found in the forward by what they compute (:mod:`senet.surgery.graph.gates`), in any package's model;
    blocks of ours are known. A module that does nothing but gate becomes an :class:`~torch.nn.Identity`; one in whose
    forward the gate is written down runs another forward. Everything else keeps its weights and its place, and what
    only the gates used is gone.

    Args:
        model: any module; it is left alone.
        example: what its forward takes, for one run without gradients; None: images of a size that it takes.

    Raises:
        InputError: no gated map was found, or the model does not take the example.
    """
    return stripped(model, example=example)[0]


def stripped(
    model: nn.Module, *, example: Sequence[Any] | None = None
) -> tuple[nn.Module, list[RemovedGate], list[tuple[str, str]]]:
    """:func:`strip`, and what it did.

    Returns:
        The twin; its former gates, in the order of the model's modules; and the gated maps that were left in it, each
        by its path and the reason. A twin with such maps is no fair one.

    Raises:
        InputError: as :func:`strip`.
    """
    refuse(model, "strip", fused=True, recorded=True)
    holder = nn.ModuleDict({"model": copied(model)})  # the model itself may be what is replaced
    restore(holder)
    forget(holder)
    tidy(holder)
    gates: list[RemovedGate] = []
    gone: set[nn.Module] = set()
    for path, module in list(holder["model"].named_modules()):
        if isinstance(module, _OURS) and module not in gone:
            gates.append(RemovedGate(path))
            gone.update(module.modules())  # a block may be made of blocks
            replace(holder, {module: nn.Identity().train(module.training)})
    if gates == [RemovedGate("")]:  # the model is a block of ours
        return holder["model"], gates, []
    walk = Walk(holder["model"], example, modes=(True, False))
    ledger = Ledger("stripped", walk)
    for module in walk.hosts():
        readings = walk.read(module)
        found = {reading: find(reading).gated for reading in readings}
        if not any(found.values()):
            continue
        prefix = walk.paths[module]
        seen: set[Key] = set()
        rows = []
        for reading, sites in found.items():
            for site in sites:
                if site.key not in seen:
                    seen.add(site.key)
                    ledger.take(site.key, site.place, "stripped")
                    rows.append(_shaped_like(reading, site.u))
        alone = without(holder, readings, {site.key: None for sites in found.values() for site in sites})
        gates += [RemovedGate(prefix, None if alone else like) for like in rows]
        walk.mark(module)
    left = ledger.closed().left
    if not gates:
        raise InputError(_nothing_found(model, left))
    order = [path for path, _ in model.named_modules()]
    return holder["model"], sorted(gates, key=lambda gate: order.index(gate.path)), left


def _nothing_found(model: nn.Module, left: Sequence[tuple[str, str]]) -> str:
    reasons = [f"{path}: {reason}" for path, reason in left]
    told = "; ".join(reasons[:3]) + (f"; and {len(reasons) - 3} more" if len(reasons) > 3 else "")
    return (
        f"{type(model).__name__} has no map that is gated by its own global average{told and f' ({told})'}; "
        "give a network with squeeze-and-excitation"
    )


def without(root: nn.Module, readings: Sequence[Reading], instead: Mapping[Key, nn.Module | None]) -> bool:
    """Takes some gates of a module away, in place.

    Args:
        root: a module around it; where nothing but the gate is left of the module, it is exchanged there.
        readings: of the module, in all ways it is called; their graphs are changed.
        instead: what takes each map in the place of its product; None: nothing does.

    Returns:
        Whether the module did nothing but gate, and was exchanged for what takes the map, or for an identity.
    """
    module = readings[0].module
    names: dict[Key, str] = {}
    dropped: set[str] = set()
    for reading in readings:
        dropped |= _cut(reading, instead, names)
    left = [[node.op for node in reading.graph.nodes] for reading in readings]
    added = [m for m in instead.values() if m is not None]
    if all(ops == ["placeholder", "output"] for ops in left) and not added:
        replace(root, {module: nn.Identity().train(module.training)})
        return True
    if len(added) == 1 and all(ops == ["placeholder", "call_module", "output"] for ops in left):
        only = [node.target for reading in readings for node in reading.graph.nodes if node.op == "call_module"]
        if set(only) == set(names.values()):
            replace(root, {module: added[0].train(module.training)})
            return True
    for key, name in names.items():
        new = instead[key]
        assert new is not None
        module.add_module(name, new.train(module.training))
    used = {str(n.target) for r in readings for n in r.graph.nodes if n.op in ("call_module", "get_attr")}
    _delete(module, dropped - used, used)
    variants = [Variant(r.call, _left_of(module, g), r.graph) for r in readings for g in r.guards()]
    told = (
        f"{type(module).__name__} has lost its gates, and is called in another way than in the example; give example="
    )
    put_in(module, variants, plain=True, otherwise=told)
    return False


def _left_of(module: nn.Module, guards: Guards) -> Guards:
    """Guards without what they say of parts that are gone."""
    parts = dict(module.named_modules())
    here = {k: v for k, v in guards.parts.items() if k[0] in parts and is_there(parts[k[0]], k[1]) == v}
    return replaced(guards, attributes={k: v for k, v in guards.attributes.items() if k[0] in parts}, parts=here)


def _cut(reading: Reading, instead: Mapping[Key, nn.Module | None], names: dict[Key, str]) -> set[str]:
    """Replaces products by their maps in a graph; returns the parts that nodes used which are gone."""
    graph, values = reading.graph, reading.values
    sites = [site for site in find(reading).gated if site.key in instead]
    gating = set().union(*(reaching(site.product, forward=False) for site in sites))
    for site in sites:
        new = site.u
        if instead[site.key] is not None:
            if site.key not in names:
                names[site.key] = next(
                    name
                    for name in map("scale{}".format, count(1))
                    if not hasattr(reading.module, name) and name not in names.values()
                )
            with graph.inserting_after(site.product):
                new = graph.call_module(names[site.key], (site.u,))
        site.product.replace_all_uses_with(new)
    dropped = set()
    for node in reversed(list(graph.nodes)):  # users come after what they use
        only_asks = node in values and not holds_tensors(values[node])
        if (node in gating or only_asks) and not node.users and node.op not in ("placeholder", "output"):
            if node.op in ("call_module", "get_attr"):
                dropped.add(str(node.target))
            graph.erase_node(node)
    return dropped


def _delete(module: nn.Module, dropped: set[str], used: set[str]) -> None:
    """Takes away parts that only gates used, and what holds nothing else then."""
    for path in dropped:
        while path and not any(f"{u}.".startswith(f"{path}.") for u in used):
            above, _, name = path.rpartition(".")
            owner = module.get_submodule(above)
            if hasattr(owner, name):
                delattr(owner, name)
            if any(True for each in (owner.children(), owner.parameters(), owner.buffers()) for _ in each):
                break
            path = above


def _shaped_like(reading: Reading, u: fx.Node) -> str | None:
    """The last module on the way to a map whose output has the map's shape; None where there is none."""
    before, values = reaching(u, forward=False), reading.values
    for node in reversed(list(reading.graph.nodes)):
        if node in before and node.op == "call_module" and getattr(values[node], "shape", None) == values[u].shape:
            return ".".join(part for part in (reading.path, str(node.target)) if part)
    return None
