"""Rewrites gated maps for inference: the pool before the projection, the first layer merged, the rest in few passes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from senet.surgery.chains import holds_tensors
from senet.surgery.sites import Gated, reaching
from senet.surgery.trace import Traced, is_norm

__all__ = ["Maker", "refusal", "rewrite"]

Maker = Callable[[nn.Module], nn.Module]

_ADDS = (operator.add, operator.iadd, torch.add, "add", "add_")
# Of a map, out of others
_MAKERS = (operator.add, operator.mul, torch.add, torch.mul, torch.cat, F.group_norm, F.layer_norm, "add", "mul")
_MAKING = (nn.modules.conv._ConvNd, nn.GroupNorm, nn.LayerNorm)
_QUERIES = (getattr, operator.getitem, "size", "dim")


def refusal(traced: Traced, site: Gated) -> str | None:
    """Why a site cannot be had in fewer passes, or None: its map may be overwritten, or a sum follows."""
    if site.gate is site.pool:
        return "its gate is its pool"
    if site.tail.shortcut is None and not _free_to_overwrite(traced, site.u):
        return "its map may be seen by others, and no sum follows"
    return None


def _free_to_overwrite(traced: Traced, u: fx.Node) -> bool:
    """Whether a map was made in the graph and passed on, maybe through activations, so that nobody else can see it."""
    node = u
    for _ in range(4):
        module = traced.double.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, _MAKING) or (module is not None and is_norm(module)) or node.target in _MAKERS:
            return True
        inputs = [n for n in node.all_input_nodes if isinstance(traced.values[n], Tensor)]
        if len(inputs) != 1 or sum(holds_tensors(traced.values[n]) for n in inputs[0].users) != 1:
            return False
        node = inputs[0]
    return False


def rewrite(traced: Traced, site: Gated) -> tuple[str, dict[str, Maker]]:
    """Rewrites one site in its graph.

    Returns:
        What became of it, in words, and the modules that the graph now calls in place of those at the same paths:
        each made from the module that was traced, or from a copy of it with other weights.
    """
    inside = reaching(site.pool, forward=True) & reaching(site.gate, forward=False)
    pixel_convs = [n for n in traced.graph.nodes if n in inside and _is_pixel_conv(traced, n)]
    words, made = _pool_first(traced, site)
    for node in pixel_convs:
        new = _as_product(traced.graph, node)
        made[str(node.target)] = partial(_linear, made.get(str(node.target), _at(str(node.target))))
        site = replace(site, gate=new) if site.gate is node else site
    words.append(_product(traced, site))
    _sweep(traced.graph)
    return ", ".join(words), made


def _pool_first(traced: Traced, site: Gated) -> tuple[list[str], dict[str, Maker]]:
    """Lets the gate be known before the projection W runs: z = mean(W h + b) = W mean(h) + b."""
    graph, conv = traced.graph, site.u
    if not _is_narrow_projection(traced, conv):
        return [], {}
    layer = cast(nn.Conv2d, traced.double.get_submodule(str(conv.target)))
    h = cast(fx.Node, conv.args[0])
    first, between = _first_layer(traced, site.pool)
    merges = first is not None and _is_cheaper(traced, layer, first)
    ndim = traced.values[cast(fx.Node, first.args[0])].ndim if merges and first else 4
    with graph.inserting_before(conv):
        seen = h
        if set(layer.stride) != {1}:
            steps: Any = (..., *(slice(None, None, s) for s in layer.stride))
            seen = graph.call_function(operator.getitem, (h, steps))
        z = graph.call_method("mean", (seen, (2, 3)), {"keepdim": ndim == 4})
        if not merges:
            z = graph.call_module(str(conv.target), (z,))
            if traced.values[site.pool].ndim < 4:
                z = graph.call_method("flatten", (z, traced.values[site.pool].ndim - 1))
    if not merges:
        site.pool.replace_all_uses_with(z)
        _erase(graph, site.to_pool)
        return ["pool before the projection"], {}
    assert first is not None
    first.args = (z,)
    _erase(graph, (*site.to_pool, *between))
    made: dict[str, Maker] = {str(first.target): partial(_merged, str(conv.target), str(first.target))}
    return ["pool before the projection", "first layer merged with it"], made


def _is_narrow_projection(traced: Traced, node: fx.Node) -> bool:
    """Whether a node is a 1x1 convolution with no more inputs than outputs, whatever its class."""
    layer = traced.double.get_submodule(str(node.target)) if node.op == "call_module" else None
    if not isinstance(layer, nn.Conv2d) or set(layer.kernel_size) != {1} or layer.in_channels > layer.out_channels:
        return False
    h = traced.values[cast(fx.Node, node.args[0])]
    return _equal(F.conv2d(h, layer.weight, layer.bias, layer.stride, groups=layer.groups), traced.values[node])


def _first_layer(traced: Traced, pool: fx.Node) -> tuple[fx.Node | None, Sequence[fx.Node]]:
    """The gate's first linear layer, if the pool goes there alone, and the nodes of the same value between them."""
    between: list[fx.Node] = []
    node, value = pool, traced.values
    while True:
        users = [n for n in node.users if holds_tensors(value[n])]
        if len(users) != 1:
            return None, ()
        if users[0].op == "call_module":
            return (users[0], between) if _is_plain_linear(traced, users[0]) else (None, ())
        node = users[0]
        if value[node].numel() != value[pool].numel() or not _equal(value[node].flatten(), value[pool].flatten()):
            return None, ()
        between.append(node)


def _is_plain_linear(traced: Traced, node: fx.Node) -> bool:
    layer, z = traced.double.get_submodule(str(node.target)), traced.values[cast(fx.Node, node.args[0])]
    if sum(n.target == node.target for n in traced.graph.nodes) > 1:
        return False
    if isinstance(layer, nn.Linear) and z.ndim == 2:
        return _equal(F.linear(z, layer.weight, layer.bias), traced.values[node])
    if isinstance(layer, nn.Conv2d) and z.ndim == 4 and set(layer.kernel_size) == {1} and z.shape[2:] == (1, 1):
        return _equal(F.conv2d(z, layer.weight, layer.bias, groups=layer.groups), traced.values[node])
    return False


def _is_pixel_conv(traced: Traced, node: fx.Node) -> bool:
    """Whether a node is a 1x1 convolution of one pixel, which is a matrix product, and faster as one."""
    layer = traced.double.get_submodule(str(node.target)) if node.op == "call_module" else None
    return isinstance(layer, nn.Conv2d) and layer.groups == 1 and _is_plain_linear(traced, node)


def _as_product(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """(N, C, 1, 1) to (N, C), the layer, and back; returns the node that gives what ``node`` gave."""
    with graph.inserting_before(node):
        flat = graph.call_method("flatten", (node.args[0], 1))
        y = graph.call_module(str(node.target), (flat,))
        new = graph.call_function(operator.getitem, (y, (slice(None), slice(None), None, None)))
    node.replace_all_uses_with(new)
    graph.erase_node(node)
    return new


def _at(path: str) -> Maker:
    return lambda root: root.get_submodule(path)


def _linear(make: Maker, root: nn.Module) -> nn.Module:
    """A 1x1 convolution as a linear layer."""
    conv = cast(nn.Conv2d, make(root))
    made = nn.Linear(conv.in_channels, conv.out_channels, device="meta")
    made.weight = nn.Parameter(conv.weight.detach().flatten(1), conv.weight.requires_grad)
    bias = None if conv.bias is None else nn.Parameter(conv.bias.detach(), conv.bias.requires_grad)
    made.register_parameter("bias", bias)
    return made.eval()


def _is_cheaper(traced: Traced, conv: nn.Conv2d, first: fx.Node) -> bool:
    """Whether both layers in one have fewer weights than the two have."""
    layer = cast(nn.Conv2d, traced.double.get_submodule(str(first.target)))
    return layer.weight.shape[0] * conv.in_channels < layer.weight.numel() + conv.weight.numel()


def _merged(conv_path: str, first_path: str, root: nn.Module) -> nn.Module:
    """W1 (W z + b) + b1 as one layer of the kind of the second: computed in float64, rounded once."""
    conv, first = cast(nn.Conv2d, root.get_submodule(conv_path)), cast(Any, root.get_submodule(first_path))
    before, after = _dense(conv), _dense(first)
    bias = torch.zeros(len(after), dtype=torch.float64, device=after.device)
    if conv.bias is not None:
        bias = bias + after @ conv.bias.detach().double()
    if first.bias is not None:
        bias = bias + first.bias.detach().double()
    sizes = (conv.in_channels, len(after))
    made: Any = nn.Linear(*sizes) if isinstance(first, nn.Linear) else nn.Conv2d(*sizes, 1)
    like = first.weight
    made.weight = nn.Parameter((after @ before).view(made.weight.shape).to(like.dtype), like.requires_grad)
    made.bias = nn.Parameter(bias.to(like.dtype), like.requires_grad)
    return made.eval()


def _dense(layer: nn.Conv2d) -> Tensor:
    """A linear layer's or 1x1 convolution's matrix, zeros between its groups."""
    weight = layer.weight.detach().double().flatten(1)
    return torch.block_diag(*weight.chunk(getattr(layer, "groups", 1)))


def _product(traced: Traced, site: Gated) -> str:
    """relu(shortcut + s * u) as one product and sum, then the ReLU in its place; without a sum, all in u's place."""
    graph, tail = traced.graph, site.tail
    last = tail.nodes[-1] if tail.nodes else site.product
    inside = {site.product, *tail.nodes}
    with graph.inserting_before(last):
        if tail.shortcut is not None:
            # Read from the sum itself, as another site's rewriting may have changed what it adds.
            shortcut = next(a for n in tail.nodes if n.target in _ADDS for a in n.args if a not in inside)
            out, words = (
                graph.call_function(torch.addcmul, (shortcut, site.u, site.gate)),
                "product and sum in one pass",
            )
        else:
            out, words = graph.call_method("mul_", (site.u, site.gate)), "product in place"
        if tail.relu:
            out, words = graph.call_method("relu_", (out,)), f"{words}, ReLU in place"
    last.replace_all_uses_with(out)
    cast(dict[fx.Node, Any], traced.values)[out] = traced.values[last]  # another site may ask for it
    _erase(graph, (*site.expands, site.product, *tail.nodes))
    return words


def _erase(graph: fx.Graph, nodes: Sequence[fx.Node]) -> None:
    """Erases nodes, and questions for their sizes, where nothing uses them any more; users first."""
    for node in sorted(nodes, reverse=True):
        _sweep(graph)
        if not node.users:
            graph.erase_node(node)


def _sweep(graph: fx.Graph) -> None:
    for node in reversed(list(graph.nodes)):
        if node.target in _QUERIES and not node.users:
            graph.erase_node(node)


def _equal(got: Tensor, wanted: Tensor) -> bool:
    return got.shape == wanted.shape and torch.allclose(got, wanted, rtol=1e-9, atol=1e-12)
