"""The networks that the tax compares: with and without squeeze-and-excitation, each prepared in some way and ready."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from senet.analysis.tax.runtimes import onnxruntime, openvino
from senet.errors import InputError, did_you_mean
from senet.surgery.folding.fold import fold
from senet.surgery.fusing.fuse import fuse
from senet.surgery.report import report

__all__ = ["DTYPES", "LAYOUTS", "WAYS", "Arm", "Setting", "batch_for", "chosen_ways", "loss_of", "prepare", "twin_of"]

# Each way, and how the twin without SE that it is compared with is prepared: as its users have it.
WAYS = {
    "eager": "eager",
    "compile": "compile",
    "fused": "eager",
    "fused+compile": "compile",
    "folded": "eager",
    "folded+compile": "compile",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Workload and device that the networks are run with.

    Attributes:
        train: a training step (forward, loss, backward, SGD with momentum) or, where not, a forward of inference.
        batch: images.
        size: their height and width in pixels.
        device: such as ``"cpu"`` or ``"cuda"``.
        dtype: a name of :data:`DTYPES`; in training that of autocast, in inference that of the weights.
        layout: a name of :data:`LAYOUTS`.
    """

    train: bool = True
    batch: int = 8
    size: int = 224
    device: str = "cpu"
    dtype: str = "float32"
    layout: str = "contiguous"

    def __post_init__(self) -> None:
        for name, known in (("dtype", DTYPES), ("layout", LAYOUTS)):
            given = getattr(self, name)
            if given not in known:
                raise InputError(f"{name} is {given!r}{did_you_mean(given, known)}")
        for name in ("batch", "size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; accepted: 1 or more")
        if self.device == "meta":
            raise InputError("device is 'meta', where nothing is computed; 'cpu' can be timed")
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:  # what PyTorch raises where a device is unknown or absent
            first = str(error).splitlines()[0]
            raise InputError(f"device is {self.device!r}, which cannot be used here ({first}); 'cpu' can") from error

    @property
    def on_cuda(self) -> bool:
        """Whether the device is a GPU of CUDA."""
        return torch.device(self.device).type == "cuda"


@dataclass(frozen=True)
class Arm:
    """A prepared network.

    Attributes:
        way: how it is prepared, a key of :data:`WAYS`.
        gated: whether it has its gates, or is the twin without.
        module: what is left of the module: its parameters, and its operators where it runs as ``module``.
        call: the network as it runs.
        step: what is timed: one step of training or one forward.
    """

    way: str
    gated: bool
    module: nn.Module
    call: Callable[[Tensor], Any]
    step: Callable[[], object]

    @property
    def countable(self) -> bool:
        """Whether it runs operator by operator."""
        return self.call is self.module


def chosen_ways(ways: Sequence[str] | None, setting: Setting) -> tuple[list[str], list[tuple[str, str]]]:
    """The ways to compare, and those left out with the reason.

    Args:
        ways: keys of :data:`WAYS`; None: all that can be had here.
        setting: what they are for.

    Raises:
        InputError: a way that was asked for is unknown or cannot be had.
    """
    for way in ways or ():
        if way not in WAYS:
            raise InputError(f"no way is called {way!r}{did_you_mean(way, WAYS)}")
        if reason := _unable(way, setting):
            raise InputError(f"the way {way!r} cannot be had: {reason}")
    if ways:
        return list(dict.fromkeys(ways)), []
    unable = {way: _unable(way, setting) for way in WAYS}
    return [way for way, why in unable.items() if why is None], [(way, why) for way, why in unable.items() if why]


def _unable(way: str, setting: Setting) -> str | None:
    inference_only = way not in ("eager", "compile", "fused", "fused+compile")
    if inference_only and setting.train:
        return "it is for inference"
    if way in ("onnxruntime", "openvino"):
        missing = [p for p in _PACKAGES[way] if importlib.util.find_spec(p) is None]
        if missing:
            return f"{', '.join(missing)} is not installed"
        if setting.device != "cpu" or setting.dtype != "float32":
            return "it is compared on the CPU in float32 alone"
    return None


_PACKAGES = {"onnxruntime": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}


def twin_of(way: str) -> str:
    """Returns the way of the twin that a network prepared in this way is compared with."""
    return WAYS[way]


def prepare(model: nn.Module, way: str, setting: Setting, *, gated: bool) -> Arm | None:
    """A copy of a network, prepared and placed; None for a twin in which there is nothing to fuse or fold.

    Args:
        model: the network, or its twin, on a CPU.
        way: a key of :data:`WAYS`.
        setting: what it is for.
        gated: whether it is the network with gates.

    Raises:
        InputError: nothing in the gated network can be fused or folded.
    """
    module = copy.deepcopy(model).train(setting.train)
    kind, _, compiled = way.partition("+")
    if kind in ("fused", "folded"):
        module = _rewritten(module, kind, gated)
        if not report(module).taken:
            if not gated:
                return None
            raise InputError(f"nothing in {type(model).__name__} can be {kind}; give the other ways")
    module = module.to(setting.device, memory_format=LAYOUTS[setting.layout])  # type: ignore[call-overload]
    if not setting.train:
        module = module.to(DTYPES[setting.dtype])
    x, labels = batch_for(module, setting)
    call: Callable[[Tensor], Any] = module
    if "compile" in (kind, compiled):
        call = torch.compile(module)
    elif kind in _PACKAGES:
        call = {"onnxruntime": onnxruntime, "openvino": openvino}[kind](module, x)
    step = _training_step(call, module, x, labels, setting) if setting.train else _inference_step(call, x)
    return Arm(way, gated, module, call, step)


def _rewritten(module: nn.Module, kind: str, gated: bool) -> nn.Module:
    return fuse(module, plain_tails=not gated) if kind == "fused" else fold(module)


def batch_for(module: nn.Module, setting: Setting) -> tuple[Tensor, Tensor]:
    """Random images (N, C, H, W), and numbers (N,) to make labels of.

    Raises:
        InputError: the network has no convolution that says how many channels an image has.
    """
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None:
        raise InputError(
            f"{type(module).__name__} has no Conv2d to tell an image's channels by; give a network of images"
        )
    generator = torch.Generator().manual_seed(0)
    shape = (setting.batch, first.in_channels, setting.size, setting.size)
    dtype = torch.float32 if setting.train else DTYPES[setting.dtype]
    x = torch.randn(shape, generator=generator).to(setting.device, dtype, memory_format=LAYOUTS[setting.layout])
    return x, torch.randint(2**31, (setting.batch,), generator=generator).to(setting.device)


def loss_of(call: Callable[[Tensor], Any], x: Tensor, labels: Tensor, setting: Setting) -> Tensor:
    """Cross-entropy of every (N, K) that a network gives, the mean square of anything else."""
    dtype = DTYPES[setting.dtype]
    with torch.autocast(torch.device(setting.device).type, dtype=dtype, enabled=dtype != torch.float32):
        out = call(x)
        losses = [
            F.cross_entropy(y, labels % y.shape[1]) if y.ndim == 2 else y.float().square().mean()
            for y in tree_leaves(out)
            if isinstance(y, Tensor)
        ]
        return torch.stack(losses).sum()


def _training_step(
    call: Callable[[Tensor], Any], module: nn.Module, x: Tensor, labels: Tensor, setting: Setting
) -> Callable[[], object]:
    # A rate of 0 does all the arithmetic and leaves the weights where they are, however many steps are timed.
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of(call, x, labels, setting).backward()
        optimizer.step()

    return step


def _inference_step(call: Callable[[Tensor], Any], x: Tensor) -> Callable[[], object]:
    @torch.inference_mode()
    def step() -> object:
        return call(x)

    return step
