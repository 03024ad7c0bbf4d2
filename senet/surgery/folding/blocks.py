"""Graphs for inference: blocks of ours opened into PyTorch's own operators, identities gone."""

from __future__ import annotations

import operator
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from senet.blocks.stages import AvgSqueeze, Recalibrate, excited
from senet.surgery.graph.calls import Call
from senet.surgery.graph.observe import Observed
from senet.surgery.graph.trace import trace

__all__ = ["plain_graph"]


class _Excitation(nn.Module):
    """The gate that :func:`~senet.blocks.stages.excited` computes where nothing is cast."""

    def __init__(self, block: Recalibrate) -> None:
        super().__init__()
        self.block = block

    def forward(self, z: Tensor) -> Tensor:
        return self.block.gate(self.block.excite(z))


def plain_graph(module: nn.Module, graph: fx.Graph, observed: Observed) -> None:
    """Replaces blocks' excitations of a global average by their layers, and drops identities.

    All runs in the map's dtype, as the weights are.

    Args:
        module: a float64 twin.
        graph: of it; changed in place.
        observed: a run of the twin.
    """
    for node in list(graph.nodes):
        if node.target is excited:
            _open(module, graph, node, observed)
    for node in list(graph.nodes):
        if node.op == "call_module" and type(module.get_submodule(str(node.target))) is nn.Identity and node.args:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


def _open(module: nn.Module, graph: fx.Graph, node: fx.Node, observed: Observed) -> None:
    block, pool = cast(tuple[fx.Node, fx.Node], node.args)
    squeeze = module.get_submodule(str(pool.target)) if pool.op == "call_module" else None
    if not isinstance(squeeze, AvgSqueeze):
        return
    (_, (u,)), *_ = observed.calls[squeeze]
    excitation = _Excitation(cast(Recalibrate, module.get_submodule(str(block.target))))
    call, _ = Call.of((torch.empty(1),), {})
    inner, _ = trace(excitation, call, training=False)
    for part in inner.nodes:
        if part.op in ("call_module", "get_attr"):
            part.target = str(block.target) + str(part.target).removeprefix("block")
    z = next(n for n in inner.nodes if n.op == "placeholder")
    with graph.inserting_before(node):
        mean = graph.call_method("mean", (pool.args[0], tuple(range(2, u.ndim))), {"keepdim": u.ndim == 4})
        mean.meta = dict(pool.meta)
        if u.ndim == 4:
            gate = cast(fx.Node, graph.graph_copy(inner, {z: mean}))
        else:  # the block's 1x1 convolutions know two axes
            seen = graph.call_function(operator.getitem, (mean, (slice(None), slice(None), None, None)))
            gate = cast(fx.Node, graph.graph_copy(inner, {z: seen}))
            index: Any = (..., 0) if u.ndim == 3 else (..., None)
            gate = graph.call_function(operator.getitem, (gate, index))
        node.replace_all_uses_with(gate)
    for dead in (node, block, pool):
        if not dead.users:
            graph.erase_node(dead)
