"""Writes a site's graph anew, so that it runs through :mod:`senet.blocks.free`."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from torch import Tensor, fx, nn

from senet.blocks.free import close_gated, close_project, close_tail, open_site, pixel_conv, pooled
from senet.blocks.stages import AvgSqueeze
from senet.surgery.graph.gates import Gated
from senet.surgery.graph.neighbours import Normed, Tail
from senet.surgery.graph.ops import holds_tensors, is_query, reaching
from senet.surgery.graph.walk import Reading
from senet.surgery.graph.written import has_hooks

__all__ = ["Rewriting"]


class Rewriting:
    """The sites of one graph, rewritten one after the other.

    Sites were found before any was rewritten, so what one of them begins with may be what another ended with; the
    nodes that took the place of others are remembered.

    Args:
        reading: module, graph and values; the graph is changed.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.graph = reading.graph
        self.now: dict[fx.Node, fx.Node] = {}

    def gated(self, site: Gated) -> str:
        """Rewrites a gated map; returns what became of it, in words."""
        source = site.source
        if source is None:
            x, norm, act = self._current(site.u), None, "none"
            opened = self._after(x, open_site, (x, None, "none"))
        else:
            x, norm, act = self._current(source.x), source.norm, source.act
            opened = self._after(source.nodes[-1], open_site, (x, self._module(norm), act))
            self._ask_of_all((site.u,), (), x)
        z = self._after(opened, pooled, (opened, self.reading.values[site.pool].ndim), self._precision(site))
        inside = reaching(site.pool, forward=True) & reaching(site.gate, forward=False)
        site.pool.replace_all_uses_with(z)
        self._as_products(inside)
        before = (*site.to_pool, *site.expands, site.product)
        self._ask_of_all(before, site.tail.nodes, x)
        if act == "none":
            self._close_tail(opened, self._current(site.gate), site.product, site.tail)
            self._erase((*before, *site.tail.nodes))
        else:
            self._close_activated(opened, site)
            self._erase((*before, *site.to_conv))
        if source is not None:
            self._erase(source.nodes)
        names = {"norm": source is not None, act: act != "none", "gate": True}
        if act == "none":
            return _sum(names | _parts(site.tail))
        return _sum(names | {"convolution": bool(site.to_conv)})

    def tail(self, source: Normed, tail: Tail) -> str:
        """Rewrites the end of a plain residual unit; returns what became of it, in words."""
        x, u = self._current(source.x), source.nodes[-1]
        opened = self._after(u, open_site, (x, self._module(source.norm), "none"), {"pool": False})
        self._ask_of_all((u,), tail.nodes, x)
        self._close_tail(opened, None, u, tail)
        self._erase((*source.nodes, *tail.nodes))
        return _sum({"norm": True} | _parts(tail))

    def _precision(self, site: Gated) -> dict[str, Any]:
        """The dtype of the average: the one that the forward names, float32 at least in blocks of ours."""
        if isinstance(self.reading.called(site.pool), AvgSqueeze):
            return {"full_precision": True}
        return {} if site.dtype is None else {"dtype": site.dtype}

    def _as_products(self, gate: Container[fx.Node]) -> None:
        """Lets the 1x1 convolutions of a gate, which see one pixel, run as matrix products."""
        for node in list(self.graph.nodes):
            if node in gate and node.op == "call_module" and self._is_pixel_conv(node):
                self._replace(node, pixel_conv, (self._module(node), *node.args))
                self.graph.erase_node(node)

    def _is_pixel_conv(self, node: fx.Node) -> bool:
        conv, value = self.reading.module.get_submodule(str(node.target)), self.reading.values.get(node)
        return bool(
            type(conv) in (nn.Conv1d, nn.Conv2d, nn.Conv3d)
            and not has_hooks(conv)
            and set(conv.kernel_size) == set(conv.stride) == {1}  # type: ignore[arg-type]
            and conv.groups == 1
            and set(conv.padding) == {0}  # type: ignore[arg-type]
            and len(node.args) == 1
            and isinstance(value, Tensor)
            and value.ndim == conv.weight.ndim
            and value.shape[2:].numel() == 1
        )

    def _close_tail(self, opened: fx.Node, gate: fx.Node | None, start: fx.Node, tail: Tail) -> None:
        last = tail.nodes[-1] if tail.nodes else start
        shortcut = None if tail.shortcut is None else self._current(tail.shortcut)
        drops = tuple(self._module(n) for n in tail.drops)
        self._replace(last, close_tail, (opened, gate, shortcut, drops), {"relu": tail.relu})

    def _close_activated(self, opened: fx.Node, site: Gated) -> None:
        if site.to_conv:
            conv = site.to_conv[-1]
            self._replace(conv, close_project, (opened, self._current(site.gate), self._module(conv)))
        else:
            self._replace(site.product, close_gated, (opened, self._current(site.gate)))

    def _current(self, node: fx.Node) -> fx.Node:
        """The node that gives now what this one gave."""
        return self.now.get(node, node)

    def _after(self, node: fx.Node, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> fx.Node:
        if node.op == "placeholder":  # all placeholders come first
            node = [n for n in self.graph.nodes if n.op == "placeholder"][-1]
        with self.graph.inserting_after(node):
            new = self.graph.call_function(call, args, kwargs)
        for argument in new.all_input_nodes:
            if argument.op == "get_attr":
                new.prepend(argument)
        return new

    def _replace(self, node: fx.Node, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
        new = self._after(node, call, args, kwargs)
        node.replace_all_uses_with(new)
        self.now[node] = new

    def _module(self, node: fx.Node) -> fx.Node:
        """A reference to the module that a node calls."""
        return self.graph.get_attr(str(node.target))

    def _ask_of_all(self, nodes: Sequence[fx.Node], tail: Sequence[fx.Node], x: fx.Node) -> None:
        """Lets nodes that ask maps which are to go for their sizes or dtype ask another of the same; the last stays."""
        values = self.reading.values
        for u in (*nodes, *tail[:-1]):
            if isinstance(values[u], Tensor) and values[u].shape == values[nodes[-1]].shape:
                for user in list(u.users):
                    if user in values and not holds_tensors(values[user]):
                        user.replace_input_with(u, x)

    def _erase(self, nodes: Sequence[fx.Node]) -> None:
        """Erases what nothing uses any more, users first, with what only asked it for sizes."""
        dead = set(nodes)
        for node in reversed(list(self.graph.nodes)):
            if (node in dead or is_query(node)) and not node.users:
                self.graph.erase_node(node)


def _parts(tail: Tail) -> dict[str, bool]:
    return {"drop": bool(tail.drops), "shortcut": tail.shortcut is not None, "relu": tail.relu}


def _sum(parts: dict[str, bool]) -> str:
    """The parts that one site took over, in the order in which they run: ``"norm + gate + shortcut + relu"``."""
    return " + ".join(name for name, there in parts.items() if there)
