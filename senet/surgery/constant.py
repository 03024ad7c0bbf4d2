"""``hold_gates``: gates that are constants, folded away where a layer beside them can take them exactly."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from senet.blocks.stages import Recalibrate
from senet.errors import InputError, did_you_mean
from senet.models.weights.pruned import ChannelScale
from senet.surgery.chains import tensors_in
from senet.surgery.constant_fold import fold_scales
from senet.surgery.folding.hosts import Hosts
from senet.surgery.folding.norms import TOLERANCE, relative_difference
from senet.surgery.fuse import restore
from senet.surgery.gates_of import GateSite, find_gates
from senet.surgery.hosts import Walk, path_of, studied
from senet.surgery.listen import listen, refuse_listened
from senet.surgery.report import Report, forget, keep
from senet.surgery.sites import Gated, find, reaching
from senet.surgery.strip import replace, without
from senet.surgery.swap import has_hooks
from senet.surgery.trace import Traced, evaluating, study, traced_inputs

__all__ = ["Held", "held", "hold_gates"]


@dataclass(frozen=True)
class Held:
    """A gate that became a constant.

    Attributes:
        site: its name.
        place: path of the module in whose forward the map was gated; ``""`` for the model itself.
        parameters: of the gate, which are gone.
        folded: whether a layer has taken the constant; else it stays, as a module that scales the map.
        became: which layer, or why none.
    """

    site: str
    place: str
    parameters: int
    folded: bool
    became: str


def hold_gates(model: nn.Module, values: Mapping[str, Tensor], *, example: Sequence[Any] | None = None) -> nn.Module:
    """A copy of a model in which the gates of some sites are constants.

    A constant gate is folded into the norm or convolution before the product, or into the convolution after it, where
    one is that map's alone; there an identity stays in the block's place. Elsewhere a module that scales each channel
    stays. In float64 the copy computes what the model does with these gates set to these values, to 1e-10, in training
    as in evaluation. :func:`~senet.surgery.report.report` says what became of each site.

    Args:
        model: any module, of any package, fused or not; it is left alone.
        values: site -> its gates (C,); sites are named as :func:`senet.record` names them.
        example: what its forward takes, for runs without gradients; None: images of a size that it takes.

    Raises:
        InputError: no values, no such site, values that are not finite or of another width, a gate that is used twice
            or called by keyword, or does more than gate; a model that is compiled, scripted or folded, or does not
            take the example.
        RuntimeError: the copy does not compute what the model does with these gates, which is a bug of this library.
    """
    copied, done = held(model, values, example=example)
    rows = Report("held")
    for gate in done:
        (rows.taken if gate.folded else rows.left).append((gate.site, gate.became))
    keep(copied, rows)
    return copied


def held(
    model: nn.Module, values: Mapping[str, Tensor], *, example: Sequence[Any] | None = None
) -> tuple[nn.Module, list[Held]]:
    """:func:`hold_gates`, and what became of each gate, in the order of ``values``.

    Raises:
        InputError, RuntimeError: as :func:`hold_gates`.
    """
    refuse_listened(model)
    if not values:
        raise InputError("no gates are to be held; give values for at least one site")
    sites = find_gates(model, example)
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        wide = {name: _checked(name, value, [site.name for site in sites]) for name, value in values.items()}
        holder = nn.ModuleDict({"model": copy.deepcopy(model)})  # the model itself may be what is replaced
        restore(holder)
        forget(holder)
        scales = _ours(holder, wide, example)
        scales |= _foreign(holder, {name: value for name, value in wide.items() if name not in scales}, example)
        try:
            found = fold_scales(holder["model"], {scale.module: scale.values for scale in scales.values()}, example)
        except InputError as error:  # what is around a block reads more of it than its output
            raise InputError(f"without the gates {', '.join(values)} the network does not run: {error}") from error
        _check_agreement(holder["model"], model, sites, wide, example)
    done = [Held(name, scales[name].place, scales[name].parameters, *found[scales[name].module]) for name in values]
    return holder["model"], done


def _check_agreement(
    constant: nn.Module,
    model: nn.Module,
    sites: Sequence[GateSite],
    values: Mapping[str, Tensor],
    example: Sequence[Any] | None,
) -> None:
    """Compares the copy as a whole with the model whose gates are set while it runs, both in float64."""
    paths = {module: path for path, module in model.named_modules()}
    twin, held = (copy.deepcopy(each).to("cpu", torch.float64).eval() for each in (model, constant))
    restore(twin)
    if example is None:
        inputs = [torch.randn_like(a, device="cpu") for a in traced_inputs(twin, None)[twin]]
    else:
        inputs = [studied(a) for a in example]

    def outputs(network: nn.Module) -> list[Tensor]:
        torch.manual_seed(0)
        with torch.no_grad():
            out = network(*(a.clone() if isinstance(a, Tensor) else a for a in inputs))
        return [each for each in tensors_in(out) if each.is_floating_point()]

    def hear(name: str, gate: Tensor) -> Tensor:
        return values[name].view(1, -1, *(1,) * (gate.ndim - 2)).expand_as(gate).clone()

    there = [dataclasses.replace(s, module=twin.get_submodule(paths[s.module])) for s in sites if s.name in values]
    with listen(there, hear):
        wanted = outputs(twin)
    rounding = max(torch.finfo(p.dtype).eps for p in model.parameters() if p.is_floating_point())
    for got, want in zip(outputs(held), wanted, strict=True):
        error = relative_difference(got, want)
        if want.isfinite().all() and not error <= math.sqrt(rounding):
            raise RuntimeError(f"with its gates held the network differs by {error:.1e} from what it was to compute")


@dataclass(frozen=True)
class _Scale:
    """What stands in a gate's place: the module, the numbers unrounded, the place, and how many parameters are gone."""

    module: ChannelScale
    values: Tensor
    place: str
    parameters: int


def _checked(name: str, value: Tensor, names: Sequence[str]) -> Tensor:
    if name not in names:
        raise InputError(f"no gate is called {name!r}{did_you_mean(name, names)}")
    if not isinstance(value, Tensor) or value.ndim != 1 or not value.is_floating_point():
        given = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"the values of {name!r} are {given}; accepted: a tensor (channels,) of real numbers")
    if not value.isfinite().all():
        raise InputError(f"{int((~value.isfinite()).sum())} values of {name!r} are not finite; give finite ones")
    return value.detach().to("cpu", torch.float64).clone()  # the user's own may change


def _ours(holder: nn.ModuleDict, values: Mapping[str, Tensor], example: Sequence[Any] | None) -> dict[str, _Scale]:
    """Replaces blocks of ours."""
    model, scales = holder["model"], {}
    blocks = {
        path or type(block).__name__: (path, block)
        for path, block in model.named_modules()
        if isinstance(block, Recalibrate)
    }
    if not blocks.keys() & values.keys():
        return {}
    with evaluating(model):
        hosts = Hosts(model, example)
    for name, (path, block) in blocks.items():
        if name in values:
            _check_place(name, block, hosts)
            factor = _factor(name, block, values[name], hosts.inputs[block][0].shape)
            scale, before = _scale(name, factor, model), set(holder.parameters())
            replace(holder, block, scale)
            scales[name] = _Scale(scale, factor, path, _count(before - set(holder.parameters())))
    return scales


def _factor(name: str, block: Recalibrate, value: Tensor, shape: torch.Size) -> Tensor:
    """What a block multiplies each channel by where its gate is a constant, found by numbers: (C,)."""

    def hear(_: str, gate: Tensor) -> Tensor:
        if gate.shape[1] != len(value):
            raise InputError(f"{len(value)} values for the {gate.shape[1]} gates of {name!r}; give one for each")
        return value.view(1, -1, *(1,) * (gate.ndim - 2)).expand_as(gate)

    twin = study(block)
    with listen([GateSite("", twin.get_submodule("gate"))], hear), torch.no_grad():
        factor = twin(torch.ones(shape, dtype=torch.float64, device="cpu"))[0, :, 0, 0]
        u = torch.randn(shape, dtype=torch.float64, device="cpu")
        if not relative_difference(twin(u), u * factor[:, None, None]) <= TOLERANCE:
            raise InputError(f"{type(block).__name__} at {name!r} does more than gate, so it is no constant; leave it")
    return factor


def _foreign(holder: nn.ModuleDict, values: Mapping[str, Tensor], example: Sequence[Any] | None) -> dict[str, _Scale]:
    """Replaces gates that others wrote: modules that only gate, and those in whose forward a gate is written down."""
    scales: dict[str, _Scale] = {}
    if not values:
        return scales
    model = holder["model"]
    with evaluating(model):
        hosts = Hosts(model, example)
    walk = Walk(model, example)
    for block in walk.paths:
        if isinstance(block, Recalibrate | ChannelScale):
            walk.mark(block)
    seen: Counter[str] = Counter()
    for module in walk.modules():
        traced, prefix = walk.traced(module), walk.paths[module]
        sites = [site for site in find(traced) if isinstance(site, Gated)] if traced is not None else []
        if traced is None or not sites:
            continue
        walk.mark(module)
        named = {_numbered(path_of(site, prefix), seen): site for site in sites}
        chosen = {name: site for name, site in named.items() if name in values}
        for name, site in chosen.items():
            _check_place(name, module, hosts)
            if (channels := traced.values[site.u].shape[1]) != len(values[name]):
                raise InputError(f"{len(values[name])} values for the {channels} gates of {name!r}; give one for each")
        if any(has_hooks(part) for part in module.modules() if chosen):
            raise InputError(f"hooks on {prefix!r} or in it would be lost; remove them first")
        made = {name: _scale(name, values[name], model) for name in chosen}
        used = {name: _used(traced, site) for name, site in chosen.items()}
        gone = set(holder.parameters())
        if chosen:
            replace(holder, module, without(traced, {site: made[name] for name, site in chosen.items()})[0])
            gone -= set(holder.parameters())
        for name in chosen:
            scales[name] = _Scale(made[name], values[name], prefix, _count(used[name] & gone))
            gone -= used[name]
    if lost := sorted(values.keys() - scales.keys()):
        raise InputError(f"the gate {lost[0]!r} is in no graph that can be rewritten; leave it")
    return scales


def _numbered(name: str, seen: Counter[str]) -> str:
    """The name of a site as :func:`~senet.surgery.gates_of.find_gates` gives it: of a second one ``:2``."""
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}:{seen[name]}"


def _check_place(name: str, module: nn.Module, hosts: Hosts) -> None:
    if hosts.calls[module] != 1:
        times = hosts.calls[module]
        raise InputError(f"the gate {name!r} is used {times} times in one forward; held can be what is used once")
    if module not in hosts.inputs:
        raise InputError(f"the gate {name!r} is called by keyword; pass the map by position, as in block(u)")


def _scale(name: str, factor: Tensor, model: nn.Module) -> ChannelScale:
    """A factor as a module for a model, of its device and dtype."""
    rounded = factor.to(next(p for p in model.parameters() if p.is_floating_point()))
    if not rounded.isfinite().all():
        raise InputError(f"values of {name!r} are beyond {rounded.dtype}; give smaller ones, or a wider model")
    return ChannelScale(rounded)


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)


def _used(traced: Traced, site: Gated) -> set[nn.Parameter]:
    """What a gate is computed with."""
    inside = reaching(site.product, forward=False) & reaching(site.pool, forward=True)
    return {p for node in inside for p in _parameters(traced.module, node)}


def _parameters(root: nn.Module, node: fx.Node) -> list[nn.Parameter]:
    if node.op == "call_module":
        return list(root.get_submodule(str(node.target)).parameters())
    if node.op == "get_attr":
        parent, _, name = str(node.target).rpartition(".")
        return [p for p in [getattr(root.get_submodule(parent), name)] if isinstance(p, nn.Parameter)]
    return []
