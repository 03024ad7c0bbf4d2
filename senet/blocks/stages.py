"""Squeeze, excite, scale: the stages every block is made of, and the one class that calls them in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from senet.errors import InputError
from senet.kernels import reference
from senet.kernels.layout import RANKS, planar

__all__ = [
    "Activation",
    "Doubled",
    "Gate",
    "OnePlus",
    "Recalibrate",
    "Squeeze",
    "activation_stage",
    "check_rank",
    "excited",
    "gate_stage",
    "no_autocast",
    "one_at_zero",
    "squeeze_stage",
    "zero",
]

Squeeze = Literal["avg", "max", "none", "conv"]
Gate = Literal["sigmoid", "hard_sigmoid", "hard_sigmoid_0.2", "double_sigmoid", "tanh", "relu"]
Activation = Literal["relu", "silu", "gelu", "hard_swish", "leaky_relu"]


class AvgSqueeze(nn.Module):
    """Global average (eq. 2): (N, C, H, W) -> (N, C, 1, 1), at least float32; likewise of other ranks."""

    def forward(self, u: Tensor) -> Tensor:
        return reference.squeeze_avg(u)


class MaxSqueeze(nn.Module):
    """Global maximum (Table 11): (N, C, H, W) -> (N, C, 1, 1), at least float32; likewise of other ranks."""

    def forward(self, u: Tensor) -> Tensor:
        return reference.squeeze_max(u)


class NoSqueeze(nn.Module):
    """No squeeze at all (Table 16): every position is excited by itself, at least float32."""

    def forward(self, u: Tensor) -> Tensor:
        return u.to(reference.accumulator_dtype(u.dtype))


class ConvSqueeze(nn.Module):
    """A 3x3 convolution, of no paper: (N, C, H, W) -> the same, at least float32; squeezes nothing.

    Some tutorials draw it. A position then knows its neighbours and not the map, which is what a squeeze is for, and
    9 C^2 weights are 4.5 r times those of SE's two layers.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, u: Tensor) -> Tensor:
        with no_autocast(u.device.type):
            z: Tensor = self.conv(u.to(self.conv.weight.dtype))
        return z.to(reference.accumulator_dtype(u.dtype))


def squeeze_stage(name: Squeeze, channels: int | None = None) -> nn.Module:
    """Global average, global maximum (Table 11), none at all (Table 16); for given channels a convolution instead."""
    squeezes: dict[str, Callable[[], nn.Module]] = {"avg": AvgSqueeze, "max": MaxSqueeze, "none": NoSqueeze}
    if channels is not None:
        squeezes["conv"] = partial(ConvSqueeze, channels)
    return _pick("squeeze", name, squeezes)


def gate_stage(name: Gate) -> nn.Module:
    """The final non-linearity (Table 12).

    ``"hard_sigmoid"`` is relu6(x + 3) / 6, as in MobileNetV3; ``"hard_sigmoid_0.2"`` has that slope: PaddlePaddle's.
    ``"double_sigmoid"`` is 2 sigmoid(x), about 1 in a fresh block, where a sigmoid is about 1/2: NFNet's.
    """
    gates: dict[str, Callable[[], nn.Module]] = {
        "sigmoid": nn.Sigmoid,
        "hard_sigmoid": nn.Hardsigmoid,
        "hard_sigmoid_0.2": SteeperHardSigmoid,
        "double_sigmoid": lambda: Doubled(nn.Sigmoid()),
        "tanh": nn.Tanh,
        "relu": nn.ReLU,
    }
    return _pick("gate", name, gates)


class SteeperHardSigmoid(nn.Module):
    """clip(0.2 x + 0.5, 0, 1): PaddlePaddle's, ONNX's and Keras 2's hard sigmoid; PyTorch's has the slope 1/6."""

    def forward(self, x: Tensor) -> Tensor:
        return (0.2 * x + 0.5).clamp(0, 1)


class Doubled(nn.Module):
    """2 * gate(x): a gate that is 1/2 at 0 is exactly 1 there.

    NFNets do so from the start (``attn_gain=2``, arXiv 2102.06171, section 4.1).
    """

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.gate(x)


class OnePlus(nn.Module):
    """1 + gate(x): GCT's, exactly 1 at 0, is 1 + tanh (arXiv 1909.11519, eq. 4); BAM's is 1 + sigmoid."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        return 1 + self.gate(x)


def one_at_zero(gate: nn.Module, block: str) -> nn.Module:
    """The gate of the same kind that is exactly 1 at 0: a sigmoid is doubled, hard or not, tanh becomes 1 + tanh.

    Raises:
        InputError: the gate of ``block`` is of another kind, and has no slope where it would be 1.
    """
    inner = gate.gate if isinstance(gate, Doubled | OnePlus) else gate
    if isinstance(inner, nn.Sigmoid | nn.Hardsigmoid | SteeperHardSigmoid):
        return Doubled(inner)
    if isinstance(inner, nn.Tanh):
        return OnePlus(inner)
    raise InputError(
        f"{block} cannot start as the identity with gate {type(gate).__name__}, which has no slope at 0; "
        "accepted: 'sigmoid', 'hard_sigmoid', 'hard_sigmoid_0.2', 'tanh'"
    )


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
    parameters lie flat in the block, so that a state_dict reads ``se.fc1.weight`` as everywhere else. ``last`` names
    the layers that give the logits, if any do: with those at zero the block can start as the identity.

    Squeeze, excitation and gate are computed in float32 where the map is float16 or bfloat16, also under
    autocast; where the block's own weights are of half precision, the excitation runs in that precision and
    squeeze and gate still in float32. float64 stays float64.

    A block that knows no neighbours of a position takes maps of sequences and of volumes too, with the same weights:
    its squeeze is over all positions, and its excitation sees a sequence as one row, a volume as a plane of D * H rows.
    ``ranks`` says which are taken.

    Shapes: (N, C, H, W), or (N, C, L) or (N, C, D, H, W) -> the same, dtype and memory format kept.

    Raises:
        InputError: a map of a rank that is not among ``ranks``.
    """

    squeeze: nn.Module
    gate: nn.Module
    last: tuple[str, ...] = ()
    ranks: tuple[int, ...] = tuple(RANKS)

    def excite(self, z: Tensor) -> Tensor:
        """From what the squeeze gives, of rank 4, to logits: (N, C, 1, 1) or any shape that a map can be scaled by."""
        raise NotImplementedError(f"{type(self).__name__} defines no excitation")

    def gates(self, u: Tensor) -> Tensor:
        """The gate s of a map: (N, C, 1, 1) for a global squeeze, and of the map's rank, in float32 or wider."""
        check_rank(self, u, self.ranks)
        return excited(self, self.squeeze(u))

    def start_as_identity(self) -> None:
        """Makes the gate exactly 1 for every map, and able to learn.

        The layers that give the logits become zero, and the gate one that is 1 there (:func:`one_at_zero`): another
        function from now on, which no state_dict says.

        Raises:
            InputError: no layer gives the logits, or the gate has no slope where it would be 1.
        """
        name = type(self).__name__
        if not self.last:
            raise InputError(f"{name} cannot start as the identity: no layer of its own gives its gate")
        self.gate = one_at_zero(self.gate, name)
        zero(*map(self.get_submodule, self.last))

    def forward(self, u: Tensor, source: Tensor | None = None) -> Tensor:
        """The map times its gate; or times the gate of another map, ``source``, which no paper has."""
        return reference.scale(u, self.gates(u if source is None else source))


def check_rank(block: nn.Module, u: Tensor, ranks: tuple[int, ...] = tuple(RANKS)) -> None:
    """Refuses a map that is none.

    Raises:
        InputError: the rank of ``u`` is not among ``ranks``.
    """
    # (A tracer's stand-in for a map knows no rank.)
    if isinstance(u, Tensor) and u.ndim not in ranks:
        accepted = ", ".join(RANKS[rank] for rank in ranks)
        raise InputError(
            f"{type(block).__name__} got a map of shape {tuple(u.shape)}, rank {u.ndim}; accepted: {accepted}"
        )


def zero(*layers: nn.Module) -> None:
    """Sets all parameters of layers to zero."""
    with torch.no_grad():
        for layer in layers:
            for p in layer.parameters():
                p.zero_()


class Excites(Protocol):
    """Module that computes logits and a gate of them: a :class:`Recalibrate`, or a block that does not multiply."""

    @property
    def gate(self) -> nn.Module: ...

    @property
    def excite(self) -> Callable[..., Tensor]: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...


def excited(block: Excites, z: Tensor, **sizes: int) -> Tensor:
    """The gate of what a block's squeeze gives, without autocast; a function, so that tracers can keep it whole.

    Args:
        block: the block.
        z: what its squeeze gave, of the map's rank.
        sizes: what else its excitation takes, such as the map's height.

    Returns:
        The gate, of the map's rank.
    """
    with no_autocast(z.device.type):
        weights = next(block.parameters(), None)
        seen = z if weights is None else z.to(weights.dtype)
        if z.ndim not in (3, 5):
            return block.gate(block.excite(seen, **sizes).to(z.dtype))
        s = block.gate(block.excite(planar(seen), **sizes).to(z.dtype))  # its 1x1 convolutions know two axes
        is_global = s.shape[2:].numel() == 1
        return s.reshape(*s.shape[:2], *((1,) * (z.ndim - 2) if is_global else z.shape[2:]))


def no_autocast(device_type: str) -> AbstractContextManager[object]:
    """Switches autocast off where it is on; elsewhere nothing, so that exported graphs stay clean."""
    # (The meta device knows no autocast; asking whether a device does is what torch 2.11 cannot compile.)
    if device_type != "meta" and torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()
