"""What a module computes, as a graph, and every value in it: what surgery reads instead of class names."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from senet.blocks.stages import excited
from senet.errors import InputError

__all__ = [
    "Traced",
    "Untraceable",
    "evaluating",
    "ever_larger",
    "example_inputs",
    "is_norm",
    "randomise_norms",
    "study",
    "trace",
    "traced_inputs",
    "values",
]


class Untraceable(Exception):  # noqa: N818 - it is no error of the user's
    """A module whose forward does not fit into one graph; the message says why."""


class _Tracer(fx.Tracer):
    """Traces into everything but what has its own meaning here: norms, convolutions, and small things without parts."""

    def __init__(self, leaves: frozenset[nn.Module]) -> None:
        super().__init__(autowrap_functions=(excited,))
        self.leaves = leaves

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        if m in self.leaves or is_norm(m) or isinstance(m, nn.Conv2d):
            return True
        if isinstance(m, nn.Sequential | nn.ModuleList | nn.ModuleDict):
            return False
        if m.__module__.startswith("torch.nn"):
            return True
        has_parts = next(m.children(), None) is not None
        return not has_parts and next(m.parameters(recurse=False), None) is None

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Notes at each node whose output it is, for a module that is no leaf leaves no node of its own."""
        output = super().call_module(m, forward, args, kwargs)
        if isinstance(output, fx.Proxy):
            output.node.meta.setdefault("output_of", []).append(self.path_of_module(m))
        return output

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, nn.Module):  # an argument of `excited`
            if a is self.root:
                raise Untraceable("it is a block of ours; the module around it is rewritten")
            return self.create_node("get_attr", self.path_of_module(a), (), {})
        return super().create_arg(a)


def is_norm(module: nn.Module) -> bool:
    """Whether a module keeps running statistics of channels: a batch norm of any kind, frozen ones included."""
    # Its own buffers, not its attributes: those of a wrapper may be what it wraps has.
    statistics = (module._buffers.get(name) for name in ("running_mean", "running_var"))
    return all(isinstance(each, Tensor) for each in statistics) and hasattr(module, "eps")


def trace(
    module: nn.Module, leaves: frozenset[nn.Module] = frozenset(), modes: tuple[bool, ...] = (True, False)
) -> fx.Graph:
    """The graph of a module's forward, the same in training and evaluation.

    Each node's ``meta["output_of"]`` names the modules whose output it is, inner ones first, if there are any.

    Args:
        module: what to trace; its mode is kept.
        leaves: modules below it that stay whole.
        modes: of training in which it is to be traced; ``(False,)`` for evaluation alone.

    Raises:
        Untraceable: forward branches on values, or differs between training and evaluation.
    """
    before = {m: m.training for m in module.modules()}
    graphs = {}
    try:
        for training in modes:
            module.train(training)
            graphs[training] = _traced(module, leaves)
    finally:
        for m, mode in before.items():
            m.training = mode
    if len({graph.python_code("self").src for graph in graphs.values()}) > 1:
        raise Untraceable("its forward differs between training and evaluation")
    return graphs[modes[0]]


def _traced(module: nn.Module, leaves: frozenset[nn.Module]) -> fx.Graph:
    try:
        return _Tracer(leaves).trace(module)
    except Exception as error:  # whatever forward does with a proxy in its hands
        first = (str(error).strip().splitlines() or [""])[0]
        raise Untraceable(f"its forward cannot be traced ({type(error).__name__}: {first})") from error


def example_inputs(model: nn.Module, smallest: int = 0) -> Iterator[tuple[Tensor, ...]]:
    """Small batches that a model of images can be expected to take, the next in case it does not: two images each.

    Of the size that the model states where it takes no other, as timm's do; else of 64 pixels, 32, or more, and not
    under ``smallest``.

    Raises:
        InputError: no convolution says how many channels an image has.
    """
    stated = getattr(model, "pretrained_cfg", None) or {}
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None:
        raise InputError(f"{type(model).__name__} has no Conv2d to tell an image's channels by; give example=")
    channels, *_, own = stated.get("input_size", (first.in_channels, None))
    sizes = [own] if stated.get("fixed_input_size") else [64, 32, 128, 224, 256, 299]
    sizes = [size for size in sizes if size >= smallest] or sizes
    for size in sizes:
        yield (first.weight.new_empty(2, channels, size, size).normal_(),)


def ever_larger(model: nn.Module, example: Sequence[Any] | None) -> Iterator[Sequence[Any] | None]:
    """What is given, and if that is nothing then examples of 128 and 256 pixels: for maps of one pixel in the first."""
    yield example
    if example is None:
        for smallest in (128, 256):
            yield next(example_inputs(model, smallest))


def traced_inputs(model: nn.Module, example: Sequence[Any] | None) -> dict[nn.Module, tuple[Any, ...]]:
    """What each module of a model is called with: tensors by their shape and dtype on no device, others as they are.

    The model runs once, in evaluation and without gradients; modules called by keyword are left out.

    Args:
        model: any module.
        example: what its forward takes; None: the first of :func:`example_inputs` that it takes.

    Raises:
        InputError: the model does not take the example.
    """
    examples = example_inputs(model) if example is None else iter([tuple(example)])
    error = None
    for given in examples:
        try:
            return _seen_inputs(model, given)
        except Exception as failure:  # whatever a model says to an image of the wrong size
            error = error or (given, failure)
    assert error is not None
    shapes = ", ".join(str(tuple(a.shape)) for a in tree_leaves(error[0]) if isinstance(a, Tensor))
    first = (str(error[1]).splitlines() or [""])[0]
    refused = f"{type(model).__name__} does not take an example of shape {shapes} ({first})"
    raise InputError(f"{refused}; give one that it takes: example=(tensor,)") from error[1]


def _seen_inputs(model: nn.Module, example: Sequence[Any]) -> dict[nn.Module, tuple[Any, ...]]:
    seen: dict[nn.Module, tuple[Any, ...]] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if not kwargs and module not in seen:
            seen[module] = tuple(torch.empty_like(a, device="meta") if isinstance(a, Tensor) else a for a in args)

    hooks = [m.register_forward_pre_hook(note, with_kwargs=True) for m in model.modules()]
    try:
        with evaluating(model), torch.no_grad():
            model(*example)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while, each module's own mode afterwards."""
    modes = {m: m.training for m in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for m, mode in modes.items():
            m.training = mode


@dataclass(frozen=True)
class Traced:
    """A module, its graph, and the value of every node on random input, in float64.

    Attributes:
        module: the module itself.
        graph: of it.
        double: a copy of it in float64 whose norms are random.
        inputs: random, in float64.
        values: of the nodes.
    """

    module: nn.Module
    graph: fx.Graph
    double: nn.Module
    inputs: tuple[Any, ...]
    values: Mapping[fx.Node, Any]


def study(module: nn.Module) -> nn.Module:
    """A copy to look at: float64, on a CPU, in evaluation, without hooks, its norms random, no layer all zeros.

    What is found out about it holds for the module, and the module is not touched.
    """
    double = copy.deepcopy(module).to("cpu", torch.float64).eval()
    for part in double.modules():
        if isinstance(part, nn.SyncBatchNorm):  # which runs on no CPU
            part.__class__ = nn.BatchNorm2d  # type: ignore[assignment]
        for name, hooks in vars(part).items():
            if "_hooks" in name and isinstance(hooks, dict) and "state_dict" not in name:
                hooks.clear()
    randomise_norms(double)
    _randomise_zeros(double)
    return double


def values(module: nn.Module, graph: fx.Graph, inputs: Sequence[Any], double: nn.Module | None = None) -> Traced:
    """Runs a graph in evaluation, in float64 on a CPU, and keeps every value.

    Args:
        module: what the graph was traced from.
        graph: its graph.
        inputs: what it is called with, from :func:`traced_inputs`.
        double: its :func:`study`, if there is one already.
    """
    double = study(module) if double is None else double
    args = tuple(_random(a) if isinstance(a, Tensor) else a for a in inputs)
    recorder = _Recorder(double, graph)
    try:
        with torch.no_grad():
            recorder.run(*args)
    except Exception as error:  # a graph that its module's own call does not follow
        first = (str(error).strip().splitlines() or [""])[0]
        raise Untraceable(f"its graph does not run ({type(error).__name__}: {first})") from error
    return Traced(module, graph, double, args, recorder.seen)


class _Recorder(fx.Interpreter):
    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, graph=graph)
        self.seen: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        # A copy, for operators in place write over what a node before them gave.
        self.seen[n] = value.clone() if isinstance(value, Tensor) else value
        return value


def _random(like: Tensor) -> Tensor:
    if not like.is_floating_point():
        raise Untraceable(f"it is called with a tensor of {like.dtype}")
    seeded = torch.Generator().manual_seed(like.numel())
    return torch.randn(like.shape, generator=seeded, dtype=torch.float64, device="cpu")


def randomise_norms(model: nn.Module, seed: int = 0) -> None:
    """Gives every norm random weights, biases and running statistics.

    Where a network starts with a norm's weight at zero, a branch computes nothing, and anything agrees with it.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(x: Tensor, low: float, high: float) -> None:
        x.copy_(torch.rand(x.shape, generator=generator, dtype=torch.float64, device="cpu") * (high - low) + low)

    with torch.no_grad():
        for module in model.modules():
            if is_norm(module):
                uniform(module.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
                uniform(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
                for name, low, high in (("weight", 0.5, 1.5), ("bias", -0.5, 0.5)):
                    if isinstance(getattr(module, name, None), Tensor):
                        uniform(getattr(module, name), low, high)


def _randomise_zeros(model: nn.Module) -> None:
    """Gives layers whose weights are zero others: behind one that computes nothing, anything agrees."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.modules.conv._ConvNd) and not module.weight.any():
                drawn = torch.rand(module.weight.shape, generator=generator, dtype=module.weight.dtype, device="cpu")
                module.weight.copy_((drawn - 0.5) / module.weight[0].numel() ** 0.5)
