"""Cost of a network, and the blocks' share of it: parameters, multiply-adds, elements touched.

The paper's "FLOPs" are multiply-adds of convolutions and linear layers (Table 2). Squeeze and scale have none, yet
they read and write whole maps, so their elements are counted by themselves.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from senet.blocks import BLOCKS, Recalibrate, SqueezeExcite
from senet.blocks.stages import ConvSqueeze, NoSqueeze
from senet.errors import InputError

__all__ = ["Complexity", "Cost", "StageWeights", "count", "equation_5"]

_STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Cost:
    """Cost of one image. Costs can be added.

    Attributes:
        parameters: trained numbers (buffers are not among them).
        multiply_adds: of convolutions and matrix products; pooling, norms, gates and sums count 0.
        activations: elements that convolutions and linear layers put out (Radosavovic et al., arXiv 2003.13678).
        squeezed: elements that squeezes reduce; a map read twice, as by CBAM, counts once.
        scaled: elements that are multiplied by a gate.
        summed: elements of maps that are sums of two, such as residual ones.
        gates: channels that are scaled.
        statistics: running means and variances of norms, which files hold beside the parameters.
    """

    parameters: int = 0
    multiply_adds: int = 0
    activations: int = 0
    squeezed: int = 0
    scaled: int = 0
    summed: int = 0
    gates: int = 0
    statistics: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Complexity:
    """The cost of a network, whole and in parts.

    Attributes:
        total: the whole network.
        attention: its blocks, that is the sum of ``sites``.
        stages: its direct children by name, in order; of a chain of chains, such as ``blocks``, each chain.
        stage_attention: the blocks inside each of them.
        sites: each block by its module name; a block inside a block is part of it.
    """

    total: Cost
    attention: Cost
    stages: dict[str, Cost] = field(default_factory=dict)
    stage_attention: dict[str, Cost] = field(default_factory=dict)
    sites: dict[str, Cost] = field(default_factory=dict)


def count(model: nn.Module, input_size: tuple[int, int, int]) -> Complexity:
    """Counts what a network costs for one image.

    A copy runs once on the meta device, in evaluation mode: shapes only, no memory, no arithmetic, and the network
    itself is left alone. Multiply-adds are half of what :class:`torch.utils.flop_counter.FlopCounterMode` counts.
    Works for any network that takes one map; only blocks of :mod:`senet.blocks` are known as attention.

    Args:
        model: the network, on any device.
        input_size: channels, height and width of the image.

    Raises:
        InputError: ``input_size`` is not three numbers of 1 or more.
    """
    if len(input_size) != 3 or min(input_size) < 1:
        raise InputError(f"input_size is {tuple(input_size)}; accepted: channels, height and width, each 1 or more")
    twin = _on_meta(model).eval()
    dtype = next((p.dtype for p in twin.parameters() if p.is_floating_point()), torch.float32)
    sums = _Sums()
    with torch.no_grad(), _elements(twin) as elements, sums.tracker, sums, FlopCounterMode(display=False) as flops:
        twin(torch.empty(1, *input_size, dtype=dtype, device="meta"))
    by_module = flops.get_flop_counts()

    def cost(name: str) -> Cost:
        """The cost of a module with all it holds."""
        module = twin.get_submodule(name)
        tracked = ".".join(filter(None, (type(twin).__name__, name)))
        return Cost(
            parameters=sum(p.numel() for p in module.parameters()),
            multiply_adds=sum(by_module.get(tracked, {}).values()) // 2,
            summed=sums.elements.get(tracked, 0),
            statistics=sum(b.numel() for key, b in module.named_buffers() if key.endswith(_STATISTICS)),
            **{key: sum(n for inner, n in found.items() if _within(inner, name)) for key, found in elements.items()},
        )

    sites = {name: cost(name) for name in _sites(twin)}
    children = _stages(twin)
    return Complexity(
        total=cost(""),
        attention=sum(sites.values(), Cost()),
        stages={name: cost(name) for name in children},
        stage_attention={
            name: sum((part for site, part in sites.items() if _within(site, name)), Cost()) for name in children
        },
        sites=sites,
    )


@dataclass(frozen=True)
class StageWeights:
    """A summand of equation 5: the like blocks of a stage.

    Attributes:
        stage: the network's child that they are in, as in :attr:`Complexity.stages`.
        blocks: how many, N.
        channels: of their maps, C.
        reduction: the ratio r as it was built: C by the hidden width, after rounding.
        weights: by the equation, 2 / r * N * C^2.
        parameters: counted, biases included.
    """

    stage: str
    blocks: int
    channels: int
    reduction: float
    weights: int
    parameters: int


def equation_5(model: nn.Module) -> tuple[StageWeights, ...]:
    """Equation 5 of the paper, the weights that SE adds: (2 / r) * sum over stages s of N_s * C_s^2.

    arXiv 1709.01507v4, Sec. 4. S is the number of stages, that is of runs of blocks whose maps are of one size. The
    equation leaves biases out; ``parameters`` has them.

    Differs from the paper: r is what a block has, not what it was asked for, as a width is a whole number; where blocks
    of a stage differ in C or r there is a summand for each kind.

    Args:
        model: a network, on any device; its blocks are found as by :func:`count`.

    Returns:
        A summand for each stage in order; none for a network without blocks.

    Raises:
        InputError: a block is not SE with its two layers, of which alone the equation speaks.
    """
    kinds: dict[tuple[str, int, int], list[int]] = {}
    stages = _stages(model)
    for name in _sites(model):
        block = model.get_submodule(name)
        if not isinstance(block, SqueezeExcite):
            raise InputError(
                f"equation 5 counts the two layers of SE, but {name} is {type(block).__name__}; use count() for others"
            )
        stage = next(stage for stage in stages if _within(name, stage))
        kind = (stage, block.fc1.in_channels, block.fc1.out_channels)
        kinds.setdefault(kind, []).append(sum(p.numel() for p in block.parameters()))
    return tuple(
        StageWeights(
            stage,
            len(parameters),
            channels,
            channels / hidden,
            int(2 / Fraction(channels, hidden) * len(parameters) * channels**2),
            sum(parameters),
        )
        for (stage, channels, hidden), parameters in kinds.items()
    )


def _on_meta(model: nn.Module) -> nn.Module:
    """A copy without memory. The model's own forward hooks stay behind: they would see tensors without values."""
    memo: dict[int, Any] = {id(b): torch.empty_like(b, device="meta") for b in model.buffers()}
    for p in model.parameters():
        memo[id(p)] = nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
    twin = copy.deepcopy(model, memo)
    for module in twin.modules():
        module._forward_hooks.clear()
    return twin


class _Sums(TorchDispatchMode):
    """Counts the elements of maps that are sums, for every module they are made in, whole network included."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = ModuleTracker()
        self.elements: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        of_two = func.overloadpacket in (torch.ops.aten.add, torch.ops.aten.add_) and isinstance(args[1], Tensor)
        if of_two and out.ndim == 4:
            for module in self.tracker.parents:
                self.elements[module] = self.elements.get(module, 0) + out.numel()
        return out


def _within(name: str, outer: str) -> bool:
    return outer in ("", name) or name.startswith(f"{outer}.")


def _stages(model: nn.Module) -> list[str]:
    names: list[str] = []
    for name, child in model.named_children():
        inner = list(child.named_children())
        chains = isinstance(child, nn.Sequential) and inner and all(isinstance(m, nn.Sequential) for _, m in inner)
        names += [f"{name}.{part}" for part, _ in inner] if chains else [name]
    return names


def _sites(model: nn.Module) -> list[str]:
    """The names of the outermost blocks."""
    kinds: tuple[type[nn.Module], ...] = (Recalibrate, *BLOCKS.values())
    names: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, kinds) and not any(_within(name, site) for site in names):
            names.append(name)
    return names


@contextmanager
def _elements(model: nn.Module) -> Iterator[dict[str, dict[str, int]]]:
    """Counts elements by kind and by the name of the module that makes, squeezes or scales them."""
    found: dict[str, dict[str, int]] = {"activations": {}, "squeezed": {}, "scaled": {}, "gates": {}}

    def watch(kind: str, name: str, module: nn.Module, *, given: bool) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            seen = args[0] if given else output
            found[kind][name] = found[kind].get(name, 0) + (seen.shape[1] if kind == "gates" else seen.numel())

        return module.register_forward_hook(hook)

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
            handles.append(watch("activations", name, module, given=False))
        if isinstance(module, Recalibrate):
            handles += [watch(kind, name, module, given=False) for kind in ("scaled", "gates")]
            if not isinstance(module.squeeze, NoSqueeze | ConvSqueeze):
                handles.append(watch("squeezed", name, module.squeeze, given=True))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
