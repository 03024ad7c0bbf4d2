"""Places for blocks by a network's structure: ends of residual branches, of stages, and what follows convolutions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx, nn

from senet.surgery.attaching.graphs import Part
from senet.surgery.graph.modules import is_norm
from senet.surgery.graph.neighbours import RTOL
from senet.surgery.graph.ops import is_map, is_sum, operands, reaching

__all__ = ["CONVOLUTIONS", "Found", "convolutions", "residual_ends"]

_Conv = nn.modules.conv._ConvNd
_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)

CONVOLUTIONS: Mapping[str, Callable[[Any], bool]] = MappingProxyType(
    {
        "conv": lambda conv: True,  # noqa: ARG005
        "conv1x1": lambda conv: set(conv.kernel_size) == {1},
        "conv3x3": lambda conv: set(conv.kernel_size) == {3} and not _is_depthwise(conv),
        "depthwise": lambda conv: _is_depthwise(conv),
    }
)


def _is_depthwise(conv: Any) -> bool:
    return conv.groups == conv.in_channels > 1


@dataclass(frozen=True)
class Found:
    """A place, or why there is none.

    Attributes:
        path: of the module behind which a block belongs, or where one was looked for.
        reason: why there is no place; None where there is.
    """

    path: str
    reason: str | None = None


def residual_ends(part: Part) -> Iterator[Found]:
    """Ends of residual branches: the last module on the longer way to a sum of two maps.

    The longer way is the one that the other map lies on, or else has more layers after what both come from, and then
    the shorter one has one at most. What is an identity in evaluation, such as stochastic depth, and what multiplies by
    constants, such as layer scale, comes after the end; either may lie on the shorter way too.
    """
    for node in part.nodes:
        if is_sum(node):
            first, second = operands(node) or (None, None)
            if not (isinstance(first, fx.Node) and isinstance(second, fx.Node) and is_map(part.values[first])):
                continue
            same_shape = is_map(part.values[second]) and part.values[first].shape == part.values[second].shape
            if same_shape and first is not second:
                yield _residual_end(part, node, first, second)


def _residual_end(part: Part, total: fx.Node, first: fx.Node, second: fx.Node) -> Found:
    before = {n: reaching(n, forward=False) for n in (first, second)}
    length = {n: sum(map(part.layers, before[n] - before[o])) for n, o in ((first, second), (second, first))}
    if part.original(first) in before[second] or part.original(second) in before[first]:
        end = second if part.original(first) in before[second] else first
    elif length[first] == length[second] or min(length.values()) > 1:
        ways = f"{length[first]} and {length[second]} layers"
        return Found(part.where(total), f"the summands of {total.name} have {ways}, so neither is a shortcut")
    else:
        end = max(first, second, key=length.__getitem__)
    taker = total
    while part.takers(end) == [taker] and (source := part.identity_of(end) or part.scaled(end)) is not None:
        taker, end = end, source
    if part.takers(end) != [taker]:
        return Found(part.where(total), f"the branch, {end.name}, goes to more than the sum")
    if end in part.gates:
        return Found(part.where(end), "the branch ends in a gate already")
    names = part.output_of(end)
    return Found(names[0]) if names else Found(part.where(total), f"the branch ends in {end.name}, no module's output")


def convolutions(part: Part, kind: Callable[[Any], bool]) -> Iterator[Found]:
    """Yields the places after convolutions of a kind: behind a norm and an activation if those alone take the map.

    Layers that compute a gate are none of them.
    """
    alone = part.modules[""]
    if isinstance(alone, _Conv) and kind(alone):  # called by what is no graph, so nothing is known of what follows
        yield Found(part.prefix)
    gating = set().union(*part.gates.values())
    for node in part.nodes:
        module = part.called(node)
        if isinstance(module, _Conv) and kind(module):
            if node in gating:
                yield Found(part.path(str(node.target)), "it computes a gate")
            else:
                yield Found(part.output_of(_behind(part, node))[0])


def _behind(part: Part, conv: fx.Node) -> fx.Node:
    """The last node of convolution, norm and activation, each a module that is called as often as the first."""
    called = Counter(node.target for node in part.nodes)
    end = node = conv
    wanted = [_is_norm, _is_activation]
    while len(takers := part.takers(node)) == 1 and part.called(takers[0]) is not None:
        node, source = takers[0], node
        if part.identity_of(node) is source:
            continue
        kind = next((kind for kind in wanted if kind(part, node)), None)
        if kind is None or called[node.target] != called[conv.target]:
            break
        wanted = wanted[wanted.index(kind) + 1 :]
        end = node
    return end


def _is_norm(part: Part, node: fx.Node) -> bool:
    module = part.called(node)
    return module is not None and (is_norm(module) or isinstance(module, _NORMS))


def _is_activation(part: Part, node: fx.Node) -> bool:
    """Whether a module works on each number alone: shuffled ones give shuffled results. Or it is a PReLU."""
    module, (source, *_) = part.called(node), node.all_input_nodes
    x, y = part.values[source], part.values[node]
    if isinstance(module, nn.PReLU):
        return True
    if (
        module is None
        or not isinstance(y, Tensor)
        or x.shape != y.shape
        or any(p.numel() > 1 for p in module.parameters())
    ):
        return False
    order = torch.randperm(x.numel(), generator=torch.Generator().manual_seed(0), device="cpu")
    with torch.no_grad():
        shuffled = module(x.flatten()[order].view_as(x))
    return torch.allclose(shuffled.flatten(), y.flatten()[order], rtol=RTOL, atol=1e-12)
