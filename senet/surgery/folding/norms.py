"""Folds norms into the convolutions and linear layers before them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from senet.surgery.graph.modules import is_norm
from senet.surgery.graph.ops import is_query
from senet.surgery.graph.run import Wide, random_like
from senet.surgery.graph.verify import FORWARD_TOLERANCE, relative_difference
from senet.surgery.graph.walk import Walk
from senet.surgery.graph.written import has_hooks
from senet.surgery.report import Report

__all__ = ["fold_norms"]

# Norms that clamp do so at large values alone.
_MAGNITUDES = (1, 50, 1e6)

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class _StaysError(Exception):
    """A norm that stays; the message says why."""


def fold_norms(walk: Walk, done: Report) -> None:
    """Folds every norm of a model that graphs show right behind a layer which nobody else looks at.

    The layer stays the same object; of the norm stays its activation, or an identity. Each pair is believed only
    after it agreed with what it replaces in float64, with a random norm and on random input. The float64 twin of the
    walk is changed alike.
    """
    norms = [module for module, twin in walk.twins.items() if is_norm(module) and walk.observed.counts[twin]]
    left = dict.fromkeys(norms, "no graph shows what comes before it")
    owners = Counter(id(p) for module in walk.paths for p in module.parameters(recurse=False))
    names = Counter(m for _, m in walk.model.named_modules(remove_duplicate=False))
    known: dict[Hashable, list[fx.Graph]] = {}  # of modules of one kind the graphs are the same
    for host in walk.hosts(all_of_them=True):
        if next(host.children(), None) is None or not any(module in left for module in host.modules()):
            continue
        kind = walk.kind(host)
        if kind not in known:
            known[kind] = walk.graphs(host)
        paths = {m: path for path, m in host.named_modules()}
        for graph in known[kind]:
            for node in graph.nodes:
                norm = host.get_submodule(str(node.target)) if node.op == "call_module" else None
                if norm not in left or norm is None:
                    continue
                try:
                    layer = _layer_before(walk, host, node, paths, owners, names)
                    rest = _rest(walk, layer, norm)
                except _StaysError as reason:
                    left[norm] = str(reason)
                    continue
                twin, twin_norm = walk.twins[layer], walk.twins[norm]
                _fold(layer, norm)
                _fold(twin, twin_norm)
                # In the one place that it has, by which it was found.
                walk.twin.set_submodule(walk.paths[norm], _rest_of(twin_norm), strict=True)
                walk.model.set_submodule(walk.paths[norm], rest, strict=True)
                done.taken.append((walk.paths[norm], f"norm folded into {walk.paths[layer]}"))
                del left[norm]
    done.left += [(walk.paths[norm], reason) for norm, reason in left.items()]


def _layer_before(
    walk: Walk,
    host: nn.Module,
    node: fx.Node,
    paths: Mapping[nn.Module, str],
    owners: Counter[int],
    names: Counter[nn.Module],
) -> nn.Module:
    norm, before = host.get_submodule(str(node.target)), node.args[0]
    assert isinstance(before, fx.Node)
    layer = host.get_submodule(str(before.target)) if before.op == "call_module" else None
    if not isinstance(layer, _LAYERS):
        raise _StaysError(f"what comes before it is no convolution or linear layer but {before.name}")
    others = [user for user in before.users if user is not node and not is_query(user)]
    if others:
        raise _StaysError(f"{before.name} also goes to {others[0].name}")
    for module in (layer, norm):
        path = paths[module]
        uses = [
            n for n in node.graph.nodes if n.op in ("call_module", "get_attr") and f"{n.target}.".startswith(f"{path}.")
        ]
        called = walk.observed.counts[walk.twins[module]]
        if len(uses) != 1 or names[module] != 1 or called != walk.observed.counts[walk.twins[host]]:
            raise _StaysError(f"{walk.paths[module]} is used more than once")
        if has_hooks(module):
            raise _StaysError(f"{walk.paths[module]} has hooks")
        if any(owners[id(p)] > 1 for p in module.parameters()):
            raise _StaysError(f"{walk.paths[module]} shares its parameters")
    if "weight" not in layer._parameters:
        raise _StaysError(f"the weight of {walk.paths[layer]} is computed")
    if layer.weight.shape[0] != cast(Tensor, norm.running_var).numel():
        raise _StaysError(f"it does not norm the channels of {walk.paths[layer]}")
    return layer


def _rest_of(norm: nn.Module) -> nn.Module:
    """Returns the module that replaces a folded norm: its activation if it has one, else an identity."""
    children = norm.named_children()  # of which parametrizations are its weight
    parts = [part for name, part in children if type(part) is not nn.Identity and name != "parametrizations"]
    rest = nn.Identity() if not parts else parts[0] if len(parts) == 1 else nn.Sequential(*parts)
    return rest.train(norm.training)


def _rest(walk: Walk, layer: nn.Module, norm: nn.Module) -> nn.Module:
    """The module that replaces a folded norm, believed by numbers."""
    if type(layer) in _LAYERS and type(norm).forward is nn.modules.batchnorm._BatchNorm.forward:
        return _rest_of(norm)  # as PyTorch itself does
    twin, twin_norm = walk.twins[layer], walk.twins[norm]
    calls = walk.observed.calls[twin]
    if len(calls) != 1 or calls[0][0].tensors != 1 or not calls[0][0].plain:
        raise _StaysError(f"{walk.paths[layer]} is called in other ways than with one tensor")
    unit = random_like(_few_positions(layer, calls[0][1][0]))
    kept = {name: None if p is None else nn.Parameter(p.detach().clone()) for name, p in twin._parameters.items()}
    inputs = [unit * size for size in _MAGNITUDES]
    with torch.no_grad(), Wide():
        try:
            wanted = [twin_norm(twin(x)) for x in inputs]
            _fold(twin, twin_norm)
            pairs = zip(inputs, wanted, strict=True)
            difference = max(relative_difference(_rest_of(twin_norm)(twin(x)), y) for x, y in pairs)
        except Exception as error:  # whatever a forward of somebody's own does with an input of ours
            raise _StaysError(f"folded into {walk.paths[layer]} it does not run ({type(error).__name__})") from error
        finally:
            twin._parameters.update(kept)
    if not difference <= FORWARD_TOLERANCE:
        raise _StaysError(f"folded into {walk.paths[layer]} it differs by {difference:.1e}")
    return _rest_of(norm)


def _few_positions(layer: nn.Module, x: Tensor) -> Tensor:
    """An input of a layer, on the meta device, of as few positions as show all of what it computes."""
    conv = cast(Any, layer)
    if isinstance(layer, nn.Linear) or x.ndim != conv.weight.ndim:
        return x
    few = [d * (k - 1) + 1 + s for k, s, d in zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)]
    return x.new_empty((*x.shape[:2], *map(min, x.shape[2:], few)))


def _fold(layer: nn.Module, norm: nn.Module) -> None:
    """Gives a layer the weight and bias that do the norm's work: computed in float64, rounded once."""
    wide = [None if t is None else t.detach().double() for t in _numbers(layer, norm)]
    # PyTorch's own for linear layers knows no norm without weights; to this one they are convolutions of no extent.
    weight, bias = fuse_conv_bn_weights(*wide[:4], cast(float, norm.eps), *wide[4:])  # type: ignore[arg-type,call-arg]
    like = cast(nn.Parameter, layer.weight)
    with torch.no_grad():
        like.copy_(weight)  # in its place: a network's weights anew would be held beside the old ones
    layer.bias = nn.Parameter(bias.detach().to(like.dtype), like.requires_grad)


def _numbers(layer: nn.Module, norm: nn.Module) -> list[Tensor | None]:
    names = ("running_mean", "running_var", "weight", "bias")
    return [cast(Tensor, layer.weight), cast(Tensor | None, layer.bias), *(getattr(norm, name, None) for name in names)]
