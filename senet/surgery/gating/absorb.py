"""Folds constant gates into the layer before or the convolution after, where these can take them exactly."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from senet.surgery.graph.modules import is_norm, replace
from senet.surgery.graph.neighbours import BATCHES
from senet.surgery.graph.ops import is_map, tensor_inputs, users_of_tensor
from senet.surgery.graph.run import Wide, float64_twin, random_like
from senet.surgery.graph.verify import FORWARD_TOLERANCE, relative_difference
from senet.surgery.graph.walk import Reading, Walk
from senet.surgery.graph.written import has_hooks

__all__ = ["absorb_scales"]


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MAGNITUDES = (50, 1e-8, 1e-6, 1e-4, 1e-2, 1, 100, 1e4, 1e6)  # of maps that are scaled before a node and after it


class _StaysError(Exception):
    """A scale that stays; the message says why."""


def absorb_scales(
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
    found = dict.fromkeys(scales, (False, "no graph shows what is around it"))
    walk = Walk(model, example, modes=(True, False))
    owners = Counter(id(p) for module in walk.paths for p in module.parameters(recurse=False))
    names = Counter(m for _, m in model.named_modules(remove_duplicate=False))
    context = _Context(walk, owners, names)
    for host in walk.hosts(all_of_them=True):
        inside = [module for module in host.modules() if module in found and not found[module][0]]
        if not inside:
            continue
        readings = walk.read(host)
        if not readings:
            found |= dict.fromkeys(inside, (False, walk.untraceable.get(host, "no graph shows what is around it")))
        elif len(readings) > 1:
            found |= dict.fromkeys(inside, (False, "what is around it is called in several ways"))
        else:
            for scale in inside:
                found[scale] = _absorbed(context, readings[0], scale, scales[scale])
                if found[scale][0]:
                    new = nn.Identity()
                    replace(model, {scale: new.train(scale.training)})
                    replace(walk.twin, {walk.twins[scale]: nn.Identity()})
                    walk.forget(host)
                    for around in walk.paths:
                        if any(part is new for part in around.modules()):
                            walk.forget(around)
                    readings = walk.read(host)
    return found


@dataclass(frozen=True)
class _Context:
    """The walk, how many modules hold each parameter, and how many names each module has."""

    walk: Walk
    owners: Counter[int]
    names: Counter[nn.Module]


def _absorbed(context: _Context, reading: Reading, scale: nn.Module, s: Tensor) -> tuple[bool, str]:
    """Folds a scale into the first layer that can take it; returns whether one did, and which, or why none."""
    node = next((n for n in reading.graph.nodes if _called(reading.module, n) is scale), None)
    if node is None:
        return False, "no graph shows what is around it"
    if context.walk.observed.counts[context.walk.twins[scale]] != 1:
        return False, "it is used more than once"
    reasons = []
    for neighbour, inputs in ((_layer_before, False), (_layer_after, True)):
        try:
            layer = neighbour(reading, node, s)
            _check(context, layer, s, inputs=inputs)
        except _StaysError as reason:
            reasons.append(str(reason))
        else:
            _multiply(layer, s, inputs=inputs)
            _multiply(context.walk.twins[layer], s, inputs=inputs)
            return True, f"folded into {context.walk.paths[layer]}"
    return False, "; ".join(reasons)


def _layer_before(reading: Reading, node: fx.Node, s: Tensor) -> nn.Module:
    """The norm or convolution that a map comes from, and that nobody else sees."""
    while True:
        giver = tensor_inputs(node, reading.values)[0]
        others = [n for n in users_of_tensor(giver, reading.values) if n is not node]
        if others:
            raise _StaysError(f"{giver.name} before it also goes to {others[0].name}")
        layer = _called(reading.module, giver)
        if layer is not None and (isinstance(layer, _CONVOLUTIONS) or is_norm(layer)):
            return layer
        if not _commutes(reading, giver, s):
            raise _StaysError(f"{giver.name} before it is no layer, nor does a scale pass through it")
        node = giver


def _layer_after(reading: Reading, node: fx.Node, s: Tensor) -> nn.Module:
    """The convolution that alone takes a map."""
    while True:
        takers = users_of_tensor(node, reading.values)
        if len(takers) != 1 or takers[0].op == "output":
            raise _StaysError(f"{len(takers)} take its product")
        layer = _called(reading.module, takers[0])
        if isinstance(layer, _CONVOLUTIONS):
            return layer
        if not _commutes(reading, takers[0], s):
            raise _StaysError(f"{takers[0].name} after it is no convolution, nor does a scale pass through it")
        node = takers[0]


def _called(root: nn.Module, node: fx.Node) -> nn.Module | None:
    return root.get_submodule(str(node.target)) if node.op == "call_module" else None


def _commutes(reading: Reading, node: fx.Node, s: Tensor) -> bool:
    """Whether it is the same to scale channels before a node or after it: asked of small and large values by turns.

    In evaluation and in training, by the same random numbers: a dropout may add what no scale was applied to.
    """
    inputs = tensor_inputs(node, reading.values)
    if node.op not in ("call_module", "call_function", "call_method") or len(inputs) != 1:
        return False
    u, v = reading.values[inputs[0]], reading.values[node]
    if not (is_map(u) and is_map(v) and u.shape[:2] == v.shape[:2] and u.any()):
        return False
    unit, factor = u / u.abs().max(), _over(s, u)

    def run(x: Tensor, training: bool) -> Tensor:
        known = {**reading.values, inputs[0]: x.clone()}
        args, kwargs = (fx.node.map_arg(a, known.__getitem__) for a in (node.args, node.kwargs))
        with torch.no_grad(), Wide(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            called = _called(reading.twin, node)
            if called is not None:  # a copy, as training may change buffers
                return cast(Tensor, copy.deepcopy(called).train(training)(*args, **cast(dict[str, Any], kwargs)))
            return getattr(fx.Interpreter(reading.twin, graph=reading.graph), node.op)(node.target, args, kwargs)

    return all(
        relative_difference(run(x * factor, training), run(x, training) * factor) <= FORWARD_TOLERANCE
        for training in (False, True)
        for x in (size * unit for size in _MAGNITUDES)
    )


def _check(context: _Context, layer: nn.Module, s: Tensor, *, inputs: bool) -> None:
    """Raises why a layer cannot take a scale: it is not this map's alone, or it computes something else with it."""
    walk = context.walk
    name, observed = walk.paths[layer], walk.observed
    if not isinstance(getattr(layer, "weight", None), Tensor) or "weight" not in {
        **layer._parameters,
        **layer._buffers,
    }:
        raise _StaysError(f"{name} has no weight of its own")
    shared = any(context.owners[id(p)] > 1 for p in layer.parameters())
    if observed.counts[walk.twins[layer]] != 1 or context.names[layer] != 1 or shared:
        raise _StaysError(f"{name} is used more than once")
    if has_hooks(layer):
        raise _StaysError(f"{name} has hooks")
    calls = observed.calls[walk.twins[layer]]
    if not calls or not calls[0][0].plain:
        raise _StaysError(f"{name} is called by keyword")
    twin = float64_twin(layer)
    changed = copy.deepcopy(twin)
    _multiply(changed, s, inputs=inputs)
    x = random_like(calls[0][1][0]) * 50
    plain = _run(twin, x, training=False)
    difference = 0.0
    large = x / x.abs().max() * 1e6  # where norms may clamp
    for given, training in ((x, False), (large, False), *((batch, True) for batch in _batches(layer, x))):
        y = _run(twin, given * _over(s, given) if inputs else given, training=training)
        wanted = y if inputs else y * _over(s, y)
        difference = max(difference, relative_difference(_run(changed, given, training=training), wanted))
    if not plain.any():  # where anything agrees
        raise _StaysError(f"{name} gives nothing but zeros")
    if not difference <= FORWARD_TOLERANCE:
        raise _StaysError(f"folded into {name} it differs by {difference:.1e}")
    for part, scaled in _scaled(layer, s, inputs=inputs):
        if not scaled.to(part.dtype).isfinite().all():
            raise _StaysError(f"folded into {name} its weights are beyond {part.dtype}")


def _batches(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """Inputs for training: of many images for norms, of which some norm parts of a batch, or in ways of their own."""
    if isinstance(layer, _CONVOLUTIONS):
        return [x]
    shape = (x.shape[1], *(1,) * (x.ndim - 3), 2)
    return [random_like(x.new_empty((images, *shape), device="meta")) for images in BATCHES]


def _run(layer: nn.Module, x: Tensor, *, training: bool) -> Tensor:
    with torch.no_grad(), Wide(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cast(Tensor, layer.train(training)(x.clone()))


def _over(s: Tensor, u: Tensor) -> Tensor:
    """Numbers of channels as what a map can be multiplied by."""
    return s.view(-1, *(1,) * (u.ndim - 2))


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
        return [(layer.weight, (groups * s.view(layer.groups, 1, -1, *(1,) * (weight.ndim - 2))).flatten(0, 1))]
    parts = [(layer.weight, weight * s.view(-1, *(1,) * (weight.ndim - 1)))]
    if layer.bias is not None:
        parts.append((layer.bias, layer.bias.detach().to("cpu", torch.float64) * s))
    return parts
