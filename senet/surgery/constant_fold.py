"""Folds constant gates into the layer before or the convolution after, where these can take them exactly."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from senet.surgery.chains import holds_tensors, is_map
from senet.surgery.folding.hosts import Hosts
from senet.surgery.folding.norms import TOLERANCE, relative_difference
from senet.surgery.swap import has_hooks
from senet.surgery.trace import Traced, Untraceable, evaluating, is_norm, study, trace, values

__all__ = ["fold_scales"]


_MAGNITUDES = (50, 1e-8, 1e-6, 1e-4, 1e-2, 1, 100, 1e4, 1e6)  # of maps that are scaled before a node and after it


class _Stays(Exception):  # noqa: N818 - it is no error of the user's
    """A scale that stays; the message says why."""


def fold_scales(
    model: nn.Module, scales: Mapping[nn.Module, Tensor], example: Sequence[Any] | None
) -> dict[nn.Module, tuple[bool, str]]:
    """Folds scales of a model where a graph shows them beside a layer which can take them.

    That is a norm or a convolution whose output goes nowhere else, or a convolution that alone takes the product.
    Between them may lie what commutes with these very scales, such as a ReLU with positive ones, or a pool. Graphs
    hold in training and in evaluation; layers are believed only after they agreed in float64. They stay the same
    objects with the same parameters, whose values change: computed in float64, rounded once.

    Args:
        model: changed in place: a scale that was folded becomes an identity.
        scales: modules of it that scale channels, each with its numbers (C,) in float64, not rounded.
        example: what its forward takes; None: images of a size that it takes.

    Returns:
        For each scale whether it was folded; and into which layer, or why not.
    """
    modes = {scale: scale.training for scale in scales}
    found = dict.fromkeys(scales, (False, "no graph shows what is around it"))
    with evaluating(model):
        hosts = Hosts(model, example)
        owners = Counter(id(p) for module in hosts.paths for p in module.parameters(recurse=False))
        for host in hosts.modules():
            inside = [module for module in host.modules() if module in found and not found[module][0]]
            if not inside:
                continue
            try:
                traced = _traced(hosts, host)
            except Untraceable as reason:
                found |= dict.fromkeys(inside, (False, str(reason)))
                continue
            for node in traced.graph.nodes:
                scale = _called(traced.module, node)
                if scale not in inside:
                    continue
                try:
                    layer = _fold(hosts, traced, node, scales[scale], owners)
                except _Stays as reason:
                    found[scale] = False, str(reason)
                else:
                    hosts.replace(scale, nn.Identity().train(modes[scale]), nn.Identity())
                    found[scale] = True, f"folded into {hosts.paths[layer][0]}"
    return found


def _traced(hosts: Hosts, host: nn.Module) -> Traced:
    graph = trace(host)
    if sum(node.op == "placeholder" for node in graph.nodes) != len(hosts.inputs[host]):
        raise Untraceable("what is around it is called with fewer arguments than its forward takes")
    return values(host, graph, hosts.inputs[host])


def _fold(hosts: Hosts, traced: Traced, node: fx.Node, s: Tensor, owners: Counter[int]) -> nn.Module:
    """Folds a scale into the first layer that can take it, and returns that layer."""
    if hosts.calls[traced.module.get_submodule(str(node.target))] != 1:
        raise _Stays("it is used more than once")
    reasons = []
    for neighbour, inputs in ((_layer_before, False), (_layer_after, True)):
        try:
            layer = neighbour(traced, node, s)
            _check(hosts, layer, s, owners, inputs=inputs)
        except _Stays as reason:
            reasons.append(str(reason))
        else:
            _multiply(layer, s, inputs=inputs)
            return layer
    raise _Stays("; ".join(reasons))


def _layer_before(traced: Traced, node: fx.Node, s: Tensor) -> nn.Module:
    """The norm or convolution that a map comes from, and that nobody else sees."""
    while True:
        giver = next(n for n in node.all_input_nodes if isinstance(traced.values[n], Tensor))
        others = [n for n in giver.users if n is not node and holds_tensors(traced.values[n])]
        if others:
            raise _Stays(f"{giver.name} before it also goes to {others[0].name}")
        layer = _called(traced.module, giver)
        if layer is not None and (isinstance(layer, nn.Conv2d) or is_norm(layer)):
            return layer
        if not _commutes(traced, giver, s):
            raise _Stays(f"{giver.name} before it is no layer, nor does a scale pass through it")
        node = giver


def _layer_after(traced: Traced, node: fx.Node, s: Tensor) -> nn.Module:
    """The convolution that alone takes a map."""
    while True:
        takers = [n for n in node.users if holds_tensors(traced.values[n])]
        if len(takers) != 1:
            raise _Stays(f"{len(takers)} take its product")
        layer = _called(traced.module, takers[0])
        if isinstance(layer, nn.Conv2d):
            return layer
        if not _commutes(traced, takers[0], s):
            raise _Stays(f"{takers[0].name} after it is no convolution, nor does a scale pass through it")
        node = takers[0]


def _called(root: nn.Module, node: fx.Node) -> nn.Module | None:
    return root.get_submodule(str(node.target)) if node.op == "call_module" else None


def _commutes(traced: Traced, node: fx.Node, s: Tensor) -> bool:
    """Whether it is the same to scale channels before a node or after it: asked of small and large values by turns.

    In evaluation and in training, by the same random numbers: a dropout may add what no scale was applied to.
    """
    inputs = [n for n in node.all_input_nodes if isinstance(traced.values[n], Tensor)]
    if node.op not in ("call_module", "call_function", "call_method") or len(inputs) != 1:
        return False
    u, v = traced.values[inputs[0]], traced.values[node]
    if not (is_map(u) and is_map(v) and u.shape[:2] == v.shape[:2] and u.any()):
        return False
    unit, factor = u / u.abs().max(), s[:, None, None]

    def run(x: Tensor, training: bool) -> Tensor:
        known = {**traced.values, inputs[0]: x.clone()}
        args, kwargs = (fx.node.map_arg(a, known.__getitem__) for a in (node.args, node.kwargs))
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            called = _called(traced.double, node)
            if called is not None:  # a copy, as training may change buffers
                return cast(Tensor, copy.deepcopy(called).train(training)(*args, **cast(dict[str, Any], kwargs)))
            return getattr(fx.Interpreter(traced.double, graph=traced.graph), node.op)(node.target, args, kwargs)

    return all(
        relative_difference(run(x * factor, training), run(x, training) * factor) <= TOLERANCE
        for training in (False, True)
        for x in (size * unit for size in _MAGNITUDES)
    )


def _check(hosts: Hosts, layer: nn.Module, s: Tensor, owners: Counter[int], *, inputs: bool) -> None:
    """Raises why a layer cannot take a scale: it is not this map's alone, or it computes something else with it."""
    name = hosts.paths[layer][0]
    if not isinstance(getattr(layer, "weight", None), Tensor) or "weight" not in {
        **layer._parameters,
        **layer._buffers,
    }:
        raise _Stays(f"{name} has no weight of its own")
    if hosts.calls[layer] != 1 or len(hosts.paths[layer]) != 1 or any(owners[id(p)] > 1 for p in layer.parameters()):
        raise _Stays(f"{name} is used more than once")
    if has_hooks(layer):
        raise _Stays(f"{name} has hooks")
    if layer not in hosts.inputs:
        raise _Stays(f"{name} is called by keyword")
    twin = study(layer)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(hosts.inputs[layer][0].shape, dtype=torch.float64, generator=generator, device="cpu") * 50
    with torch.no_grad():
        plain = twin(x)
        wanted = twin(x * s[:, None, None]) if inputs else plain * s[:, None, None]
        _multiply(twin, s, inputs=inputs)
        difference = relative_difference(twin(x), wanted)
    if not plain.any():  # where anything agrees
        raise _Stays(f"{name} gives nothing but zeros")
    if not difference <= TOLERANCE:
        raise _Stays(f"folded into {name} it differs by {difference:.1e}")
    for part, scaled in _scaled(layer, s, inputs=inputs):
        if not scaled.to(part.dtype).isfinite().all():
            raise _Stays(f"folded into {name} its weights are beyond {part.dtype}")


@torch.no_grad()
def _multiply(layer: nn.Module, s: Tensor, *, inputs: bool) -> None:
    """Scales what a layer gives or, a convolution, what it takes: computed in float64, rounded once."""
    for part, scaled in _scaled(layer, s, inputs=inputs):
        part.copy_(scaled)


def _scaled(layer: Any, s: Tensor, *, inputs: bool) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of a layer, each with what it is scaled, in float64."""
    weight = layer.weight.detach().to("cpu", torch.float64)
    if inputs:
        groups = weight.unflatten(0, (layer.groups, -1))  # of outputs, each with inputs of its own
        return [(layer.weight, (groups * s.view(layer.groups, 1, -1, 1, 1)).flatten(0, 1))]
    parts = [(layer.weight, weight * s.view(-1, *(1,) * (weight.ndim - 1)))]
    if layer.bias is not None:
        parts.append((layer.bias, layer.bias.detach().to("cpu", torch.float64) * s))
    return parts
