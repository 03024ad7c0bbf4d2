"""``freeze_gates``: gates that are constants, folded away where a layer beside them can take them exactly."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from senet.blocks.stages import Recalibrate
from senet.errors import InputError, did_you_mean
from senet.models.weights.pruned import ChannelScale
from senet.surgery.gating.absorb import absorb_scales
from senet.surgery.gating.find import GateSite, find_gates
from senet.surgery.gating.strip import without
from senet.surgery.gating.tap import listen
from senet.surgery.graph.gates import Gated, find
from senet.surgery.graph.install import restore
from senet.surgery.graph.modules import refuse, replace
from senet.surgery.graph.observe import Observed, observe
from senet.surgery.graph.ops import reaching, tensors_in
from senet.surgery.graph.run import Wide, computes_weight, copied, float64_twin, in_float64
from senet.surgery.graph.verify import FORWARD_TOLERANCE, relative_difference
from senet.surgery.graph.walk import Reading, Walk
from senet.surgery.graph.written import has_hooks
from senet.surgery.report import Report, forget, keep

__all__ = ["FrozenGate", "freeze_gates", "frozen"]


@dataclass(frozen=True)
class FrozenGate:
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


def freeze_gates(model: nn.Module, values: Mapping[str, Tensor], *, example: Sequence[Any] | None = None) -> nn.Module:
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
    copied, done = frozen(model, values, example=example)
    rows = Report("frozen")
    for gate in done:
        (rows.taken if gate.folded else rows.left).append((gate.site, gate.became))
    keep(copied, rows)
    return copied


def frozen(
    model: nn.Module, values: Mapping[str, Tensor], *, example: Sequence[Any] | None = None
) -> tuple[nn.Module, list[FrozenGate]]:
    """:func:`freeze_gates`, and what became of each gate, in the order of ``values``.

    Raises:
        InputError, RuntimeError: as :func:`freeze_gates`.
    """
    refuse(model, "freeze gates of", fused=True)
    if not values:
        raise InputError("no gates are to be frozen; give values for at least one site")
    sites = {site.name: site for site in find_gates(model, example)}
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        wide = {name: _checked(name, value, list(sites)) for name, value in values.items()}
        holder = nn.ModuleDict({"model": copied(model)})  # the model itself may be what is replaced
        restore(holder)
        forget(holder)
        scales = _ours(holder, wide, example)
        scales |= _foreign(holder, {sites[name]: value for name, value in wide.items() if name not in scales}, example)
        try:
            found = absorb_scales(holder["model"], {scale.module: scale.values for scale in scales.values()}, example)
        except InputError as error:  # what is around a block reads more of it than its output
            raise InputError(f"without the gates {', '.join(values)} the network does not run: {error}") from error
        _check_agreement(holder["model"], model, [sites[name] for name in wide], wide, example)
    done = [
        FrozenGate(name, scales[name].place, scales[name].parameters, *found[scales[name].module]) for name in values
    ]
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
    twin, constants = (copied(each, in_float64).to("cpu", torch.float64).eval() for each in (model, constant))
    restore(twin)
    inputs = observe(twin, example).example

    def outputs(network: nn.Module) -> list[Tensor]:
        torch.manual_seed(0)
        with torch.no_grad(), Wide():
            out = network(*tree_map(lambda a: a.clone() if isinstance(a, Tensor) else a, inputs))
        return [each for each in tensors_in(out) if each.is_floating_point()]

    def hear(name: str, gate: Tensor) -> Tensor:
        return values[name].view(1, -1, *(1,) * (gate.ndim - 2)).expand_as(gate).clone()

    there = [dataclasses.replace(site, module=twin.get_submodule(paths[site.module])) for site in sites]
    with listen(there, hear):
        wanted = outputs(twin)
    rounding = max(torch.finfo(p.dtype).eps for p in model.parameters() if p.is_floating_point())
    for got, want in zip(outputs(constants), wanted, strict=True):
        error = relative_difference(got, want)
        if want.isfinite().all() and not error <= math.sqrt(rounding):
            raise RuntimeError(f"with its gates frozen the network differs by {error:.1e} from what it was to compute")


@dataclass(frozen=True)
class _Scale:
    """Replacement of a gate: the module, the unrounded numbers, the place, and the number of parameters removed."""

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
    twin = float64_twin(model)
    observed = observe(twin, example)
    for name, (path, block) in blocks.items():
        if name in values:
            part = twin.get_submodule(path)
            _check_place(name, part, observed)
            (_, (u,)), *_ = observed.calls[part]
            factor = _factor(name, block, values[name], u.shape)
            scale, before = _scale(name, factor, model), set(holder.parameters())
            replace(holder, {block: scale.train(block.training)})
            scales[name] = _Scale(scale, factor, path, _count(before - set(holder.parameters())))
    return scales


def _factor(name: str, block: Recalibrate, value: Tensor, shape: torch.Size) -> Tensor:
    """The numbers that a block multiplies channels by where its gate is a constant, found by running it: (C,)."""

    def hear(_: str, gate: Tensor) -> Tensor:
        if gate.shape[1] != len(value):
            raise InputError(f"{len(value)} values for the {gate.shape[1]} gates of {name!r}; give one for each")
        return value.view(1, -1, *(1,) * (gate.ndim - 2)).expand_as(gate)

    twin = float64_twin(block)
    with listen([GateSite("", twin.get_submodule("gate"))], hear), torch.no_grad():
        factor = twin(torch.ones(shape, dtype=torch.float64, device="cpu"))[0].flatten(1)[:, 0]
        u = torch.randn(shape, dtype=torch.float64, device="cpu")
        if not relative_difference(twin(u), u * factor.view(-1, *(1,) * (u.ndim - 2))) <= FORWARD_TOLERANCE:
            raise InputError(f"{type(block).__name__} at {name!r} does more than gate, so it is no constant; leave it")
    return factor


def _foreign(
    holder: nn.ModuleDict, values: Mapping[GateSite, Tensor], example: Sequence[Any] | None
) -> dict[str, _Scale]:
    """Replaces gates that others wrote: modules that only gate, and those in whose forward a gate is written down."""
    scales: dict[str, _Scale] = {}
    if not values:
        return scales
    model = holder["model"]
    walk = Walk(model, example, modes=(True, False))
    for block in walk.paths:
        if isinstance(block, Recalibrate | ChannelScale):
            walk.mark(block)
    wanted = {site.key: site.name for site in values}
    numbers = {site.key: value for site, value in values.items()}
    for module in walk.hosts():
        readings, prefix = walk.read(module), walk.paths[module]
        gated = {site.key: (reading, site) for reading in readings for site in find(reading).gated}
        if not gated:
            continue
        walk.mark(module)
        chosen = {key: pair for key, pair in gated.items() if key in wanted}
        for key, (reading, site) in chosen.items():
            name = wanted[key]
            _check_place(name, reading.twin, walk.observed)
            if (channels := reading.values[site.u].shape[1]) != len(numbers[key]):
                raise InputError(f"{len(numbers[key])} values for the {channels} gates of {name!r}; give one for each")
        if not chosen:
            continue
        if any(has_hooks(part, computes_weight) for part in module.modules()):
            raise InputError(f"hooks on {prefix!r} or in it would be lost; remove them first")
        made = {key: _scale(wanted[key], numbers[key], model) for key in chosen}
        used = {key: _used(reading, site) for key, (reading, site) in chosen.items()}
        gone = set(holder.parameters())
        without(holder, readings, made)
        gone -= set(holder.parameters())
        for key in chosen:
            scales[wanted[key]] = _Scale(made[key], numbers[key], prefix, _count(used[key] & gone))
            gone -= used[key]
    if lost := sorted({site.name for site in values} - scales.keys()):
        raise InputError(f"the gate {lost[0]!r} is in no graph that can be rewritten; leave it")
    return scales


def _check_place(name: str, twin: nn.Module, observed: Observed) -> None:
    if (times := observed.counts[twin]) != 1:
        raise InputError(f"the gate {name!r} is used {times} times in one forward; frozen can be what is used once")
    if not all(call.plain for call, _ in observed.calls[twin]):
        raise InputError(f"the gate {name!r} is called by keyword; pass the map by position, as in block(u)")


def _scale(name: str, factor: Tensor, model: nn.Module) -> ChannelScale:
    """A factor as a module for a model, of its device and dtype."""
    rounded = factor.to(next(p for p in model.parameters() if p.is_floating_point()))
    if not rounded.isfinite().all():
        raise InputError(f"values of {name!r} are beyond {rounded.dtype}; give smaller ones, or a wider model")
    return ChannelScale(rounded)


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)


def _used(reading: Reading, site: Gated) -> set[nn.Parameter]:
    """The parameters that a gate is computed with."""
    inside = reaching(site.product, forward=False) & reaching(site.pool, forward=True)
    return {p for node in inside for p in _parameters(reading.module, node)}


def _parameters(root: nn.Module, node: fx.Node) -> list[nn.Parameter]:
    if node.op == "call_module":
        return list(root.get_submodule(str(node.target)).parameters())
    if node.op == "get_attr":
        parent, _, name = str(node.target).rpartition(".")
        return [p for p in [getattr(root.get_submodule(parent), name)] if isinstance(p, nn.Parameter)]
    return []
