"""Rewrites gated maps for inference: the pool before the projection, the first layer merged, the rest in few passes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from senet.surgery.graph.gates import Gated
from senet.surgery.graph.modules import is_norm
from senet.surgery.graph.ops import (
    is_query,
    is_sum,
    makes_map,
    operands,
    reaching,
    tensor_inputs,
    users_of_tensor,
)
from senet.surgery.graph.walk import Reading

__all__ = ["Maker", "refusal", "rewrite"]

Maker = Callable[[nn.Module], nn.Module]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONVOLVE: dict[int, Callable[..., Tensor]] = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
_MAKING = (nn.modules.conv._ConvNd, nn.GroupNorm, nn.LayerNorm)


def refusal(reading: Reading, site: Gated) -> str | None:
    """Returns why a site cannot be had in fewer passes, or None: its map may be overwritten, or a sum follows."""
    if site.gate is site.pool:
        return "its gate is its pool"
    if site.tail.shortcut is None and not _free_to_overwrite(reading, site.u):
        return "its map may be seen by others, and no sum follows"
    return None


def _free_to_overwrite(reading: Reading, u: fx.Node) -> bool:
    """Whether a map was made in the graph and passed on, maybe through activations, so that nobody else can see it."""
    node = u
    for _ in range(4):
        module = reading.called(node)
        if isinstance(module, _MAKING) or (module is not None and is_norm(module)) or makes_map(node):
            return True
        inputs = tensor_inputs(node, reading.values)
        if len(inputs) != 1 or len(users_of_tensor(inputs[0], reading.values)) != 1:
            return False
        node = inputs[0]
    return False


def rewrite(reading: Reading, site: Gated) -> tuple[str, dict[str, Maker]]:
    """Rewrites one site in its graph.

    Returns:
        What became of it, in words, and new parts of the module that the graph calls, by name: each made from the
        module that was read, or from its twin.
    """
    inside = reaching(site.pool, forward=True) & reaching(site.gate, forward=False)
    pixel_convs = [n for n in reading.graph.nodes if n in inside and _is_pixel_conv(reading, n)]
    words, made, gone = _pool_first(reading, site)
    gate = site.gate
    for node in pixel_convs:
        if node is not gone:
            new = _as_product(reading, node)
            gate = new if gate is node else gate
    words.append(_product(reading, site, gate))
    _sweep(reading.graph)
    return ", ".join(words), made


def _pool_first(reading: Reading, site: Gated) -> tuple[list[str], dict[str, Maker], fx.Node | None]:
    """Lets the gate be known before the projection W runs: z = mean(W h + b) = W mean(h) + b.

    Where that makes fewer weights, W and the gate's first layer become one; the first layer's node is gone then.
    """
    graph, conv = reading.graph, site.u
    if not _is_narrow_projection(reading, conv):
        return [], {}, None
    layer = cast(nn.Conv2d, reading.called(conv))
    h = cast(fx.Node, conv.args[0])
    first, between = _first_layer(reading, site.pool)
    ndim, pooled = reading.values[conv].ndim, reading.values[site.pool].ndim
    with graph.inserting_before(conv):
        seen = h
        if set(layer.stride) != {1}:
            steps: Any = (..., *(slice(None, None, s) for s in layer.stride))
            seen = graph.call_function(operator.getitem, (h, steps))
        mean = partial(graph.call_method, "mean", (seen, tuple(range(2, ndim))))
        if first is None or not _is_cheaper(reading, layer, first):
            z = graph.call_module(str(conv.target), (mean({"keepdim": True}),))
            if pooled < ndim:
                z = graph.call_method("flatten", (z, pooled - 1))
            site.pool.replace_all_uses_with(z)
        else:
            name = _new_name(reading, str(first.target))
            z = graph.call_module(name, (mean({"keepdim": False}),))
            if (rank := reading.values[first].ndim) > 2:
                z = graph.call_function(operator.getitem, (z, (slice(None), slice(None), *[None] * (rank - 2))))
            first.replace_all_uses_with(z)
            _erase(graph, (*site.to_pool, *between, first))
            return (
                ["pool before the projection", "first layer merged with it"],
                {name: partial(_merged, str(conv.target), str(first.target))},
                first,
            )
    _erase(graph, site.to_pool)
    return ["pool before the projection"], {}, None


def _new_name(reading: Reading, path: str) -> str:
    """A name for a part of the module that it does not have yet."""
    name = path.replace(".", "_") + "_merged"
    while hasattr(reading.module, name):
        name += "_"
    return name


def _is_narrow_projection(reading: Reading, node: fx.Node) -> bool:
    """Whether a node is a 1x1 convolution with no more inputs than outputs, whatever its class."""
    layer = reading.called(node)
    if not isinstance(layer, _CONVOLUTIONS) or set(layer.kernel_size) != {1} or layer.in_channels > layer.out_channels:
        return False
    if not _has_weight(reading, node) or len(node.args) != 1:
        return False
    h = reading.values[cast(fx.Node, node.args[0])]
    convolve = _CONVOLVE[layer.weight.ndim]
    return _equal(convolve(h, layer.weight, layer.bias, layer.stride, groups=layer.groups), reading.values[node])


def _has_weight(reading: Reading, node: fx.Node) -> bool:
    """Whether the weight of the layer that a node calls is a parameter, and not computed from others."""
    return "weight" in reading.module.get_submodule(str(node.target))._parameters


def _first_layer(reading: Reading, pool: fx.Node) -> tuple[fx.Node | None, Sequence[fx.Node]]:
    """The gate's first linear layer, if the pool goes there alone, and the nodes of the same value between them."""
    between: list[fx.Node] = []
    node, value = pool, reading.values
    while True:
        users = users_of_tensor(node, value)
        if len(users) != 1:
            return None, ()
        if users[0].op == "call_module":
            return (users[0], between) if _is_plain_linear(reading, users[0]) else (None, ())
        node = users[0]
        same = isinstance(value.get(node), Tensor) and value[node].numel() == value[pool].numel()
        if not same or not _equal(value[node].flatten(), value[pool].flatten()):
            return None, ()
        between.append(node)


def _is_plain_linear(reading: Reading, node: fx.Node) -> bool:
    layer = reading.called(node)
    if len(node.args) != 1 or sum(n.target == node.target for n in reading.graph.nodes) > 1:
        return False
    z = reading.values[cast(fx.Node, node.args[0])]
    if not isinstance(layer, nn.Linear | nn.modules.conv._ConvNd) or not _has_weight(reading, node):
        return False
    if isinstance(layer, nn.Linear) and z.ndim == 2:
        return _equal(F.linear(z, layer.weight, layer.bias), reading.values[node])
    if isinstance(layer, _CONVOLUTIONS) and z.ndim == layer.weight.ndim and {*layer.kernel_size, *z.shape[2:]} == {1}:
        convolve = _CONVOLVE[layer.weight.ndim]
        return _equal(convolve(z, layer.weight, layer.bias, groups=layer.groups), reading.values[node])
    return False


def _is_pixel_conv(reading: Reading, node: fx.Node) -> bool:
    """Whether a node is a 1x1 convolution of one pixel, which is a matrix product, and faster as one."""
    layer = reading.called(node)
    return isinstance(layer, _CONVOLUTIONS) and layer.groups == 1 and _is_plain_linear(reading, node)


def _as_product(reading: Reading, node: fx.Node) -> fx.Node:
    """Writes a convolution of one pixel as a matrix product; returns the node that gives what ``node`` gave."""
    graph, layer = reading.graph, cast(nn.Conv2d, reading.called(node))
    path = str(node.target)
    with graph.inserting_before(node):
        flat = graph.call_method("flatten", (node.args[0], 1))
        weight = graph.call_method("flatten", (graph.get_attr(f"{path}.weight"), 1))
        bias = None if layer.bias is None else graph.get_attr(f"{path}.bias")
        y = graph.call_function(F.linear, (flat, weight, bias))
        index = (slice(None), slice(None), *[None] * (layer.weight.ndim - 2))
        new = graph.call_function(operator.getitem, (y, index))
    node.replace_all_uses_with(new)
    graph.erase_node(node)
    return new


def _is_cheaper(reading: Reading, conv: nn.Conv2d, first: fx.Node) -> bool:
    """Whether both layers in one have fewer weights than the two have."""
    layer = cast(nn.Conv2d, reading.called(first))
    return layer.weight.shape[0] * conv.in_channels < layer.weight.numel() + conv.weight.numel()


def _merged(conv_path: str, first_path: str, root: nn.Module) -> nn.Module:
    """W1 (W z + b) + b1 as one linear layer: computed in float64, rounded once."""
    conv, first = cast(nn.Conv2d, root.get_submodule(conv_path)), cast(Any, root.get_submodule(first_path))
    before, after = _dense(conv), _dense(first)
    bias = torch.zeros(len(after), dtype=torch.float64, device=after.device)
    if conv.bias is not None:
        bias = bias + after @ conv.bias.detach().double()
    if first.bias is not None:
        bias = bias + first.bias.detach().double()
    made: Any = nn.Linear(conv.in_channels, len(after), device="meta")
    like = first.weight
    made.weight = nn.Parameter((after @ before).to(like.dtype), like.requires_grad)
    made.bias = nn.Parameter(bias.to(like.dtype), like.requires_grad)
    return made.eval()


def _dense(layer: nn.Conv2d) -> Tensor:
    """A linear layer's or 1x1 convolution's matrix, zeros between its groups."""
    weight = layer.weight.detach().double().flatten(1)
    groups = getattr(layer, "groups", 1)
    return weight if groups == 1 else torch.block_diag(*weight.chunk(groups))


def _product(reading: Reading, site: Gated, gate: fx.Node) -> str:
    """Multiplies, adds and cuts off in as few passes as PyTorch's own operators can."""
    graph, tail = reading.graph, site.tail
    last = tail.nodes[-1] if tail.nodes else site.product
    inside = {site.product, *tail.nodes}
    ndim = reading.values[site.u].ndim
    with graph.inserting_before(last):
        if (rank := reading.values[site.gate].ndim) < ndim:  # its product was an einsum, or its expansion reshaped it
            index: Any = (..., *[None] * (ndim - rank))
            gate = graph.call_function(operator.getitem, (gate, index))
        if tail.shortcut is not None:
            # Read from the sum itself, as another site's rewriting may have changed what it adds.
            total = next(n for n in tail.nodes if is_sum(n))
            shortcut = next(a for a in operands(total) or () if a not in inside)
            out = graph.call_function(torch.addcmul, (cast(fx.Node, shortcut), site.u, gate))
            words = "product and sum in one pass"
        else:
            out, words = graph.call_method("mul_", (site.u, gate)), "product in place"
        if tail.relu:
            out, words = graph.call_method("relu_", (out,)), f"{words}, ReLU in place"
    last.replace_all_uses_with(out)
    reading.values[out] = reading.values[last]  # another site may ask for it
    _erase(graph, (*site.expands, site.product, *tail.nodes))
    return words


def _erase(graph: fx.Graph, nodes: Sequence[fx.Node]) -> None:
    """Erases nodes, and questions for their sizes, where nothing uses them any more; users first."""
    for node in sorted(nodes, reverse=True):
        _sweep(graph)
        if not node.users and not node._erased:
            graph.erase_node(node)


def _sweep(graph: fx.Graph) -> None:
    for node in reversed(list(graph.nodes)):
        if is_query(node) and not node.users:
            graph.erase_node(node)


def _equal(got: Tensor, wanted: Tensor) -> bool:
    return got.shape == wanted.shape and torch.allclose(got, wanted, rtol=1e-9, atol=1e-12)
