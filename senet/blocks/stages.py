"""Squeeze, excite, scale: the stages every block is made of, and the one class that calls them in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from senet.errors import InputError
from senet.kernels import reference

__all__ = [
    "Activation",
    "Gate",
    "Recalibrate",
    "Squeeze",
    "activation_stage",
    "excited",
    "gate_stage",
    "squeeze_stage",
]

Squeeze = Literal["avg", "max", "none"]
Gate = Literal["sigmoid", "hard_sigmoid", "tanh", "relu"]
Activation = Literal["relu", "silu", "gelu", "hard_swish", "leaky_relu"]


class AvgSqueeze(nn.Module):
    """Global average (eq. 2): (N, C, H, W) -> (N, C, 1, 1), at least float32."""

    def forward(self, u: Tensor) -> Tensor:
        return reference.squeeze_avg(u)


class MaxSqueeze(nn.Module):
    """Global maximum (Table 11): (N, C, H, W) -> (N, C, 1, 1), at least float32."""

    def forward(self, u: Tensor) -> Tensor:
        return reference.squeeze_max(u)


class NoSqueeze(nn.Module):
    """No squeeze at all (Table 16): every position is excited by itself, at least float32."""

    def forward(self, u: Tensor) -> Tensor:
        return u.to(reference.accumulator_dtype(u.dtype))


def squeeze_stage(name: Squeeze) -> nn.Module:
    """Global average, global maximum (Table 11), or none at all (Table 16)."""
    return _pick("squeeze", name, {"avg": AvgSqueeze, "max": MaxSqueeze, "none": NoSqueeze})


def gate_stage(name: Gate) -> nn.Module:
    """The final non-linearity (Table 12); hard_sigmoid is relu6(x + 3) / 6, as in MobileNetV3."""
    gates = {"sigmoid": nn.Sigmoid, "hard_sigmoid": nn.Hardsigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
    return _pick("gate", name, gates)


def activation_stage(name: Activation) -> nn.Module:
    """The non-linearity between the two layers of an excitation."""
    activations = {
        "relu": nn.ReLU,
        "silu": nn.SiLU,
        "gelu": nn.GELU,
        "hard_swish": nn.Hardswish,
        "leaky_relu": nn.LeakyReLU,
    }
    return _pick("activation", name, activations)


def _pick(stage: str, name: str, known: Mapping[str, Callable[[], nn.Module]]) -> nn.Module:
    if name not in known:
        raise InputError(f"{stage} is {name!r}; accepted: {', '.join(map(repr, known))}")
    return known[name]()


class Recalibrate(nn.Module):
    """A block that multiplies a map by a gate computed from it: u -> scale(u, gate(excite(squeeze(u)))).

    Subclasses set ``squeeze`` and ``gate``, in the order in which they run, and define :meth:`excite`. Their
    parameters lie flat in the block, so that a state_dict reads ``se.fc1.weight`` as everywhere else.

    Squeeze, excitation and gate are computed in float32 where the map is float16 or bfloat16, also under
    autocast; where the block's own weights are of half precision, the excitation runs in that precision and
    squeeze and gate still in float32. float64 stays float64.

    Shapes: (N, C, H, W) -> (N, C, H, W), dtype and memory format kept.
    """

    squeeze: nn.Module
    gate: nn.Module

    def excite(self, z: Tensor) -> Tensor:
        """From what the squeeze gives to logits: (N, C, 1, 1) or any shape that the map can be scaled by."""
        raise NotImplementedError(f"{type(self).__name__} defines no excitation")

    def gates(self, u: Tensor) -> Tensor:
        """The gate s of a map: (N, C, 1, 1) for a global squeeze, in float32 or wider."""
        return excited(self, self.squeeze(u))

    def forward(self, u: Tensor) -> Tensor:
        return reference.scale(u, self.gates(u))


def excited(block: Recalibrate, z: Tensor) -> Tensor:
    """The gate of what a block's squeeze gives, without autocast; a function, so that tracers can keep it whole."""
    with _no_autocast(z.device.type):
        weights = next(block.parameters(), None)
        logits = block.excite(z if weights is None else z.to(weights.dtype))
        return block.gate(logits.to(z.dtype))


def _no_autocast(device_type: str) -> AbstractContextManager[object]:
    """Switches autocast off where it is on; elsewhere nothing, so that exported graphs stay clean."""
    # (The meta device knows no autocast; asking whether a device does is what torch 2.11 cannot compile.)
    if device_type != "meta" and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()
