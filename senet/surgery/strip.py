"""``strip``: the twin without squeeze-and-excitation, so that any network can be compared with what it would be."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from torch import Tensor, fx, nn

from senet.blocks import BLOCKS
from senet.blocks.stages import Recalibrate
from senet.errors import InputError
from senet.surgery.hosts import Walk
from senet.surgery.sites import Gated, find, reaching
from senet.surgery.trace import Traced

__all__ = ["Gate", "replace", "strip", "stripped", "without"]

_OURS: tuple[type[nn.Module], ...] = (Recalibrate, *BLOCKS.values())


@dataclass(frozen=True)
class Gate:
    """A gated map that a twin does not have.

    Attributes:
        path: the module in whose forward the map is gated; ``""`` for the model itself.
        like: the module whose output has the map's shape; None: the map is what the module at ``path`` is called with.
    """

    path: str
    like: str | None = None


def strip(model: nn.Module, *, example: Sequence[Any] | None = None) -> nn.Module:
    """A copy of a model in which every gated map is the map itself.

    Gated maps are found in the forward by what they compute (:mod:`senet.surgery.sites`), in any package's model;
    blocks of ours are known. A module that does nothing but gate becomes an :class:`~torch.nn.Identity`; one in whose
    forward the gate is written down becomes an :class:`~torch.fx.GraphModule` of the rest. Everything else keeps its
    weights and its place, and what only the gates used is gone.

    Args:
        model: any module; it is left alone.
        example: what its forward takes, for one run without gradients; None: images of a size that it takes.

    Raises:
        InputError: no gated map was found, or the model does not take the example.
    """
    return stripped(model, example=example)[0]


def stripped(
    model: nn.Module, *, example: Sequence[Any] | None = None
) -> tuple[nn.Module, list[Gate], list[tuple[str, str]]]:
    """:func:`strip`, and what it did.

    Returns:
        The twin; its former gates, in the order of the model's modules; and the products that look like gated maps and
        were left in it, each by its path and the reason. A twin with such products is no fair one.

    Raises:
        InputError: as :func:`strip`.
    """
    holder = nn.ModuleDict({"model": copy.deepcopy(model)})  # the model itself may be what is replaced
    gates: list[Gate] = []
    gone: set[nn.Module] = set()
    for path, module in list(holder["model"].named_modules()):
        if isinstance(module, _OURS) and module not in gone:
            gates.append(Gate(path))
            gone.update(module.modules())  # a block may be made of blocks
            replace(holder, module, nn.Identity())
    if gates == [Gate("")]:  # the model is a block of ours
        return holder["model"], gates, []
    walk = Walk(holder["model"], example)
    for module in walk.modules():
        traced = walk.traced(module)
        sites = [site for site in find(traced) if isinstance(site, Gated)] if traced is not None else []
        if traced is not None and sites:
            rest, _ = without(traced, dict.fromkeys(sites))
            inline = not isinstance(rest, nn.Identity)
            prefix = walk.paths[module]
            gates += [Gate(prefix, _shaped_like(traced, site.u, prefix) if inline else None) for site in sites]
            replace(holder, module, rest)
            walk.mark(module)
    left = list(dict.fromkeys(walk.refused()))
    if not gates:
        raise InputError(_nothing_found(model, walk, left))
    order = [path for path, _ in model.named_modules()]
    return holder["model"], sorted(gates, key=lambda gate: order.index(gate.path)), left


def _nothing_found(model: nn.Module, walk: Walk, left: Sequence[tuple[str, str]]) -> str:
    reasons = [f"{path}: {reason}" for path, reason in left]
    for module, reason in walk.untraceable.items():
        if next(module.children(), None) is not None:
            reasons.append(f"{walk.paths[module] or 'the model'}: {reason}")
    told = "; ".join(reasons[:3]) + (f"; and {len(reasons) - 3} more" if len(reasons) > 3 else "")
    return (
        f"{type(model).__name__} has no map that is gated by its own global average{told and f' ({told})'}; "
        "give a network with squeeze-and-excitation"
    )


def without(traced: Traced, sites: Mapping[Gated, nn.Module | None]) -> tuple[nn.Module, list[str]]:
    """A module without some of its gates.

    Args:
        traced: the module; it and its graph are changed.
        sites: the gated maps, and what takes each map in the place of its product; None: nothing does.

    Returns:
        A module of the rest: what takes the map, or an identity, where nothing else is left, and else a
        :class:`~torch.fx.GraphModule`; and the paths in it of what takes the maps, ``""`` for itself.
    """
    graph, paths = traced.graph, []
    gating = set().union(*(reaching(site.product, forward=False) for site in sites))
    for site, instead in sites.items():
        new = site.u
        if instead is not None:
            paths.append(next(name for name in map("scale{}".format, count(1)) if not hasattr(traced.module, name)))
            traced.module.add_module(paths[-1], instead)
            with graph.inserting_before(site.product):
                new = graph.call_module(paths[-1], (site.u,))
        site.product.replace_all_uses_with(new)
    for node in reversed(list(graph.nodes)):  # users come after what they use
        only_asks = node in traced.values and not isinstance(traced.values[node], Tensor)
        if (node in gating or only_asks) and not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)
    left = [node.op for node in graph.nodes]
    if left == ["placeholder", "output"]:
        return nn.Identity(), paths
    if left == ["placeholder", "call_module", "output"] and paths:
        return traced.module.get_submodule(paths[0]), [""]
    return fx.GraphModule(traced.module, graph, type(traced.module).__name__), paths


def _shaped_like(traced: Traced, u: fx.Node, prefix: str) -> str | None:
    """The last module on the way to a map whose output has the map's shape; None where there is none."""
    before, shape = reaching(u, forward=False), traced.values[u].shape
    for node in reversed(list(traced.graph.nodes)):
        if node in before and node.op == "call_module" and traced.values[node].shape == shape:
            return ".".join(part for part in (prefix, str(node.target)) if part)
    return None


def replace(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Puts a module in the place of another, wherever that is used."""
    new.train(old.training)
    for parent in list(root.modules()):
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new
