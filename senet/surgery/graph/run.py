"""Runs models and graphs to see what they compute: in float64, on a CPU, with random norms, on a copy."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from senet.errors import InputError
from senet.surgery.graph.modules import is_norm

__all__ = [
    "Wide",
    "computes_weight",
    "copied",
    "example_inputs",
    "float64_twin",
    "growing_examples",
    "in_float64",
    "node_values",
    "random_like",
    "randomise_norms",
]

_CASTING = {Tensor.float, Tensor.half, Tensor.bfloat16}
_NARROW = {torch.float32, torch.float16, torch.bfloat16}


class Wide(TorchFunctionMode):
    """Lets code that casts to a floating dtype cast to float64, so that all it computes can be compared closely.

    Many forwards take a mean in float32 to be safe in half precision; in a float64 copy that would round.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _CASTING:
            return args[0].double()
        if any(isinstance(a, torch.dtype) for a in (*args, *kwargs.values())):
            args = tuple(_widened(a) for a in args)
            kwargs = {name: _widened(a) for name, a in kwargs.items()}
        return func(*args, **kwargs)


def _widened(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in _NARROW else value


class _Copying(TorchFunctionMode):
    """Lets ``deepcopy`` copy tensors that were computed with gradients, each without its history."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__deepcopy__ and type(args[0]) is Tensor:
            tensor, memo = args
            if id(tensor) not in memo:
                with torch._C.DisableTorchFunction():
                    memo[id(tensor)] = _changed(tensor, self.change).requires_grad_(tensor.requires_grad)
            return memo[id(tensor)]
        return func(*args, **(kwargs or {}))


def _changed(tensor: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """A changed tensor that shares no memory with the one it was."""
    made = change(tensor.detach())
    return made.clone() if made.data_ptr() == tensor.data_ptr() else made


def copied(module: nn.Module, change: Callable[[Tensor], Tensor] = lambda t: t) -> nn.Module:
    """Returns a deep copy of a module, also of one that keeps tensors it computed with gradients.

    Args:
        module: any.
        change: is applied to each tensor.

    Raises:
        InputError: something in it has no copy.
    """
    # Parameters are put among the copies beforehand: so none is held in its own dtype and in another at a time.
    plain = (p for p in module.parameters() if type(p) is nn.Parameter)
    memo: dict[int, Any] = {id(p): nn.Parameter(_changed(p, change), p.requires_grad) for p in plain}
    try:
        with _Copying(change):
            return copy.deepcopy(module, memo)
    except Exception as error:  # whatever an attribute says to being copied
        first = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"{type(module).__name__} cannot be copied, which surgery does to look at it ({type(error).__name__}: "
            f"{first}); take away what has no copy"
        ) from error


def float64_twin(module: nn.Module) -> nn.Module:
    """Returns a copy to look at: float64, on a CPU, in evaluation, without hooks, norms random, no layer all zeros.

    What is found out about it holds for the module, and the module is not touched. Hooks that compute a weight, as
    pruning's and the older weight norm's do, stay.

    Raises:
        InputError: the module cannot be copied.
    """
    twin = copied(module, in_float64)
    twin = twin.to("cpu", torch.float64).eval()
    for part in twin.modules():
        if isinstance(part, nn.SyncBatchNorm):  # which runs on no CPU
            part.__class__ = _LocalBatchNorm  # type: ignore[assignment]
        for name, hooks in vars(part).items():
            if "_hooks" in name and isinstance(hooks, dict) and "state_dict" not in name:
                for key, hook in list(hooks.items()):
                    if not computes_weight(hook):
                        del hooks[key]
    randomise_norms(twin)
    _randomise_zeros(twin)
    return twin


class _LocalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm of maps of any rank, in the place of a synchronised one."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        """Any rank will do."""


def computes_weight(hook: object) -> bool:
    """Whether a hook before forward computes a weight of its module, as PyTorch's pruning and weight norm do."""
    return type(hook).__module__.startswith("torch.nn.utils")


def in_float64(value: Any) -> Any:
    """A tensor of real numbers in float64 on a CPU, others on a CPU; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    return value.to("cpu", torch.float64 if value.is_floating_point() else value.dtype)


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


_FIRST = (nn.Conv2d, nn.Conv1d, nn.Conv3d)


def example_inputs(model: nn.Module, smallest: int = 0) -> Iterator[tuple[Tensor, ...]]:
    """Yields small batches that a model can be expected to take, the next in case it does not: two images each.

    Of the size that the model states where it takes no other, as timm's do; else of 64 pixels, 32, or more, and not
    under ``smallest``. Signals and volumes where the first convolution is one of those.

    Raises:
        InputError: no convolution says how many channels an image has.
    """
    stated = getattr(model, "pretrained_cfg", None) or {}
    first = next((m for m in model.modules() if isinstance(m, _FIRST)), None)
    if first is None:
        raise InputError(f"{type(model).__name__} has no Conv2d to tell an image's channels by; give example=")
    channels, *_, own = stated.get("input_size", (first.in_channels, None))
    ndim = first.weight.ndim - 2
    sizes = {1: [256, 64, 1024, 4096, 16384], 2: [64, 32, 128, 224, 256, 299], 3: [16, 32, 64]}[ndim]
    sizes = [own] if stated.get("fixed_input_size") else sizes
    sizes = [size for size in sizes if size >= smallest] or sizes
    for size in sizes:
        yield (first.weight.new_empty(2, channels, *(size,) * ndim).normal_(),)


def growing_examples(model: nn.Module, example: Sequence[Any] | None) -> Iterator[Sequence[Any] | None]:
    """Yields ``example``; if it is None, also images of 128 and 256 pixels.

    For models whose gated maps shrink to one pixel at the default size.
    """
    yield example
    if example is None:
        for smallest in (128, 256):
            yield next(example_inputs(model, smallest))


def random_like(like: Tensor, seed: int = 0) -> Tensor:
    """A random tensor in float64 of the shape of another; of whole numbers and truth values, zeros of their dtype."""
    if not like.is_floating_point():
        return torch.zeros(like.shape, dtype=like.dtype, device="cpu")
    numbers = _normal_numbers()
    start = (like.numel() + 7919 * seed) % 4096
    count = -(-(start + like.numel()) // len(numbers))
    return numbers.repeat(count)[start : start + like.numel()].view(like.shape).clone()


@functools.cache
def _normal_numbers() -> Tensor:
    """A prime number of random numbers, drawn once: from them on, they repeat in no map's period."""
    seeded = torch.Generator().manual_seed(0)
    return torch.randn(262_147, generator=seeded, dtype=torch.float64, device="cpu")


def node_values(
    twin: nn.Module, graph: fx.Graph, inputs: Sequence[Tensor], keep: Collection[fx.Node] | None = None
) -> Mapping[fx.Node, Any]:
    """Runs a graph of a module's float64 twin and returns the value of every node, or of those to keep.

    Raises:
        Exception: whatever the graph's operators raise.
    """
    recorder = _Recorder(twin, graph, keep)
    with torch.no_grad(), Wide():
        recorder.run(*(a.clone() for a in inputs))
    return recorder.seen


class _Recorder(fx.Interpreter):
    def __init__(self, module: nn.Module, graph: fx.Graph, keep: Collection[fx.Node] | None) -> None:
        super().__init__(module, graph=graph)
        self.keep = keep
        self.seen: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if self.keep is None or n in self.keep:
            # A copy, for operators in place write over what a node before them gave.
            self.seen[n] = tree_map(lambda a: a.clone() if isinstance(a, Tensor) else a, value)
        return value
