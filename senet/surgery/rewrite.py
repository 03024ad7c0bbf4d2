"""Writes a site's graph anew, so that it runs through :mod:`senet.blocks.free`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx

from senet.blocks.free import close_gated, close_project, close_tail, open_site, pooled
from senet.blocks.stages import AvgSqueeze
from senet.surgery.sites import Gated, Normed, Tail
from senet.surgery.trace import Traced

__all__ = ["free_gated", "free_tail"]


def free_gated(traced: Traced, site: Gated) -> str:
    """Rewrites a gated map; returns what became of it, in words."""
    graph, source = traced.graph, site.source
    x, act = (source.x, source.act) if source else (site.u, "none")
    with graph.inserting_after(source.nodes[-1] if source else site.u):
        opened = graph.call_function(open_site, (x, None, act))
    if source:
        with graph.inserting_before(opened):
            opened.args = (x, graph.get_attr(source.norm.target), act)  # type: ignore[arg-type]
    with graph.inserting_after(opened):
        full = _calls(traced, site.pool, AvgSqueeze)
        z = graph.call_function(pooled, (opened, traced.values[site.pool].ndim), {"full_precision": full})
    site.pool.replace_all_uses_with(z)
    if source:  # sizes and dtypes asked of u are those of x
        _ask_instead(site.u, x, traced)
    if act != "none":
        return _close_activated(traced, site, opened)
    _close(graph, opened, site.gate, site.product, site.tail, (*site.to_pool, *site.expands, site.product))
    _erase(graph, source.nodes if source else ())
    if source is None:
        return "gate"
    return "residual tail" if site.tail.shortcut is not None else "norm and gate"


def free_tail(traced: Traced, source: Normed, tail: Tail) -> str:
    """Rewrites the end of a plain residual unit; returns what became of it, in words."""
    graph = traced.graph
    with graph.inserting_before(source.norm):
        norm = graph.get_attr(source.norm.target)  # type: ignore[arg-type]
        opened = graph.call_function(open_site, (source.x, norm, "none"), {"pool": False})
    _ask_instead(source.nodes[-1], source.x, traced)
    _close(graph, opened, None, source.nodes[-1], tail, ())
    _erase(graph, source.nodes)
    return "plain tail"


def _close(
    graph: fx.Graph, opened: fx.Node, gate: fx.Node | None, start: fx.Node, tail: Tail, dead: Sequence[fx.Node]
) -> None:
    last = tail.nodes[-1] if tail.nodes else start
    with graph.inserting_after(last):
        closed = graph.call_function(close_tail, (opened, gate, tail.shortcut, ()), {"relu": tail.relu})
    with graph.inserting_before(closed):
        drops = tuple(graph.get_attr(n.target) for n in tail.drops)  # type: ignore[arg-type]
    closed.args = (*closed.args[:3], drops)
    last.replace_all_uses_with(closed)
    _erase(graph, (*dead, *tail.nodes))


def _close_activated(traced: Traced, site: Gated, opened: fx.Node) -> str:
    assert site.source is not None
    graph, last = traced.graph, (site.to_conv or (site.product,))[-1]
    with graph.inserting_after(last):
        if site.to_conv:
            closed = graph.call_function(close_project, (opened, site.gate))
        else:
            closed = graph.call_function(close_gated, (opened, site.gate))
    if site.to_conv:
        with graph.inserting_before(closed):
            closed.args = (*closed.args, graph.get_attr(last.target))  # type: ignore[arg-type]
    last.replace_all_uses_with(closed)
    _erase(graph, (*site.to_pool, *site.expands, site.product, *site.to_conv))
    _erase(graph, site.source.nodes)
    return "gate before a convolution" if site.to_conv else "activation and gate"


def _ask_instead(u: fx.Node, x: fx.Node, traced: Traced) -> None:
    """Lets nodes that ask a map for its sizes or dtype ask another of the same."""
    for user in list(u.users):
        if user in traced.values and not isinstance(traced.values[user], Tensor):
            user.replace_input_with(u, x)


def _erase(graph: fx.Graph, nodes: Sequence[fx.Node]) -> None:
    """Erases what nothing uses any more, users first."""
    dead = set(nodes)
    for node in reversed(list(graph.nodes)):
        if node in dead:
            _drop_queries(graph, node)
            graph.erase_node(node)


def _drop_queries(graph: fx.Graph, node: fx.Node) -> None:
    for user in list(node.users):
        if not user.users:
            graph.erase_node(user)


def _calls(traced: Traced, node: fx.Node, kind: type[Any]) -> bool:
    return node.op == "call_module" and isinstance(traced.module.get_submodule(str(node.target)), kind)
