"""Folds norms into the convolutions and linear layers before them."""

from __future__ import annotations

import copy
from collections import Counter
from typing import cast

import torch
from torch import Tensor, fx, nn

from senet.surgery.folding.hosts import Hosts
from senet.surgery.report import Report
from senet.surgery.swap import has_hooks
from senet.surgery.trace import is_norm, randomise_norms

__all__ = ["TOLERANCE", "fold_norms", "relative_difference"]

TOLERANCE = 1e-10

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_QUERIES = (getattr, "size", "dim")


class _Kept(Exception):  # noqa: N818 - it is no error of the user's
    """A norm that stays; the message says why."""


def fold_norms(hosts: Hosts, done: Report) -> None:
    """Folds every norm of a model that a graph shows right behind a layer which nobody else looks at.

    The layer stays the same object; of the norm stays its activation, or an identity. Each pair is believed only
    after it agreed with what it replaces in float64, with a random norm and on random input.
    """
    left = {norm: "no graph shows what comes before it" for norm in hosts.calls if is_norm(norm)}
    owners = Counter(id(p) for module in hosts.paths for p in module.parameters(recurse=False))
    for host in hosts.modules():
        graph = hosts.graph(host) if any(module in left for module in host.modules()) else None
        for node in graph.nodes if graph is not None else ():
            norm = host.get_submodule(node.target) if node.op == "call_module" else None
            if norm not in left:
                continue
            try:
                layer = _layer_before(hosts, host, node, owners)
                rest = _rest(hosts, layer, norm)
            except _Kept as reason:
                left[norm] = str(reason)
                continue
            _fold(layer, norm)
            path = hosts.paths[norm][0]
            parent, _, name = path.rpartition(".")
            setattr(hosts.model.get_submodule(parent), name, rest)
            done.taken.append((path, f"norm folded into {hosts.paths[layer][0]}"))
            del left[norm]
    done.left += [(hosts.paths[norm][0], reason) for norm, reason in left.items()]


def _layer_before(hosts: Hosts, host: nn.Module, node: fx.Node, owners: Counter[int]) -> nn.Module:
    norm, before = host.get_submodule(str(node.target)), node.args[0]
    assert isinstance(before, fx.Node)
    layer = host.get_submodule(str(before.target)) if before.op == "call_module" else None
    if not isinstance(layer, _LAYERS):
        raise _Kept(f"what comes before it is no convolution or linear layer but {before.name}")
    others = [user for user in before.users if user is not node and user.target not in _QUERIES]
    if others:
        raise _Kept(f"{before.name} also goes to {others[0].name}")
    for module in (layer, norm):
        path = next(n for n, m in host.named_modules() if m is module)
        uses = [
            n for n in node.graph.nodes if n.op in ("call_module", "get_attr") and f"{n.target}.".startswith(f"{path}.")
        ]
        names, called = hosts.paths[module], hosts.calls[module]
        if len(uses) != 1 or len(names) != 1 or called != hosts.calls[host]:
            raise _Kept(f"{names[0]} is used more than once")
        if has_hooks(module):
            raise _Kept(f"{names[0]} has hooks")
        if any(owners[id(p)] > 1 for p in module.parameters()):
            raise _Kept(f"{names[0]} shares its parameters")
    if "weight" not in layer._parameters:
        raise _Kept(f"the weight of {hosts.paths[layer][0]} is computed")
    if layer.weight.shape[0] != norm.running_var.numel():  # type: ignore[operator]
        raise _Kept(f"it does not norm the channels of {hosts.paths[layer][0]}")
    return layer


def _rest(hosts: Hosts, layer: nn.Module, norm: nn.Module) -> nn.Module:
    """What a norm does after norming, such as an activation, on its own: its parts, believed by numbers."""
    parts = [part for part in norm.children() if type(part) is not nn.Identity]
    rest = nn.Identity() if not parts else parts[0] if len(parts) == 1 else nn.Sequential(*parts)
    wide_layer, wide_norm, wide_rest = copy.deepcopy(nn.ModuleList([layer, norm, rest])).to("cpu", torch.float64)
    randomise_norms(wide_norm)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(hosts.inputs[layer][0].shape, dtype=torch.float64, generator=generator, device="cpu")
    with torch.no_grad():
        wanted = wide_norm(wide_layer(x))
        _fold(wide_layer, wide_norm)
        difference = relative_difference(wide_rest(wide_layer(x)), wanted)
    if not difference <= TOLERANCE:
        raise _Kept(f"folded into {hosts.paths[layer][0]} it differs by {difference:.1e}")
    return rest


def _fold(layer: nn.Module, norm: nn.Module) -> None:
    """Gives a layer the weight and bias that do the norm's work: computed in float64, rounded once."""
    weight, bias = cast(Tensor, layer.weight), cast(Tensor | None, layer.bias)
    mean, var = (cast(Tensor, getattr(norm, name)).detach().double() for name in ("running_mean", "running_var"))
    gamma, beta = (getattr(norm, name, None) for name in ("weight", "bias"))
    scale = (var + cast(float, norm.eps)).rsqrt()
    scale = scale if gamma is None else scale * gamma.detach().double()
    shift = scale * (-mean if bias is None else bias.detach().double() - mean)
    shift = shift if beta is None else shift + beta.detach().double()
    folded = weight.detach().double() * scale.view(-1, *(1,) * (weight.ndim - 1))
    layer.weight = nn.Parameter(folded.to(weight.dtype), weight.requires_grad)
    layer.bias = nn.Parameter(shift.to(weight.dtype), weight.requires_grad)


def relative_difference(got: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return float((got - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30)) if wanted.numel() else 0.0
