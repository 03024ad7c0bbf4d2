"""Squeeze, excite, scale in Keras: what all layers share, in ``keras.ops`` alone, so that any backend runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import keras
from keras import ops

from senet.blocks.stages import Activation, Gate, Squeeze
from senet.errors import InputError

__all__ = [
    "ACTIVATIONS",
    "GATES",
    "SQUEEZES",
    "DataFormat",
    "Recalibrate",
    "Shape",
    "Start",
    "he_normal",
    "like_torch",
    "pick",
    "wide",
]

DataFormat = Literal["channels_last", "channels_first"]
Start = Literal["paper", "identity"]
Shape = tuple[int | None, ...]
Function = Callable[[Any], Any]


def _steeper_hard_sigmoid(x: Any) -> Any:
    """clip(0.2 x + 0.5, 0, 1): Keras 2's; Keras 3's has the slope 1/6, as PyTorch's."""
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def _double_sigmoid(x: Any) -> Any:
    return 2.0 * ops.sigmoid(x)


GATES: Mapping[Gate, Function] = {
    "sigmoid": ops.sigmoid,
    "hard_sigmoid": ops.hard_sigmoid,
    "hard_sigmoid_0.2": _steeper_hard_sigmoid,
    "double_sigmoid": _double_sigmoid,
    "tanh": ops.tanh,
    "relu": ops.relu,
}

# The gate of the same kind that is exactly 1 at 0, as senet.blocks.stages.one_at_zero has it
_ONE_AT_ZERO: Mapping[Gate, Function] = {
    "sigmoid": _double_sigmoid,
    "hard_sigmoid": lambda x: 2.0 * ops.hard_sigmoid(x),
    "hard_sigmoid_0.2": lambda x: 2.0 * _steeper_hard_sigmoid(x),
    "double_sigmoid": _double_sigmoid,
    "tanh": lambda x: 1.0 + ops.tanh(x),
}

# As PyTorch defines them: by default Keras's gelu is an approximation, and the slope of its leaky ReLU 0.2
ACTIVATIONS: Mapping[Activation, Function] = {
    "relu": ops.relu,
    "silu": ops.silu,
    "gelu": lambda x: ops.gelu(x, approximate=False),
    "hard_swish": ops.hard_silu,
    "leaky_relu": lambda x: ops.leaky_relu(x, negative_slope=0.01),
}

SQUEEZES: Mapping[Squeeze, Callable[[Any, tuple[int, ...]], Any]] = {
    "avg": lambda u, axes: ops.mean(ops.cast(u, wide(u)), axis=axes, keepdims=True),
    "max": lambda u, axes: ops.cast(ops.max(u, axis=axes, keepdims=True), wide(u)),
    "none": lambda u, _: ops.cast(u, wide(u)),
}


def pick(what: str, name: str, known: Mapping[Any, Any]) -> Any:
    """The entry of a table.

    Raises:
        InputError: it has no such name; says which it has.
    """
    if name not in known:
        raise InputError(f"{what} is {name!r}; accepted: {', '.join(map(repr, known))}")
    return known[name]


def wide(u: Any) -> str:
    """The dtype that squeeze and gate are computed in: float32, or float64 where the map is float64."""
    return "float64" if keras.backend.standardize_dtype(u.dtype) == "float64" else "float32"


def he_normal() -> keras.initializers.Initializer:
    """He's normal initialisation by fan-out (arXiv 1502.01852), as all layers of our networks start."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def like_torch() -> keras.initializers.Initializer:
    """Uniform between -1 / sqrt(fan-in) and 1 / sqrt(fan-in): what a convolution of PyTorch starts with."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


class Recalibrate(keras.Layer):
    """A layer that multiplies a map by a gate computed from it: u -> u * gate(excite(squeeze(u))).

    Subclasses set their layers in ``build`` and define :meth:`excite`; both work with channels last, whatever the
    map's data format.

    Squeeze and gate are computed in float32 where the map is float16 or bfloat16. The excitation runs in the dtype of
    the layer's weights: in float32 too under a mixed policy. float64 stays float64.

    Args:
        gate: the final non-linearity, by the names of :data:`GATES`.
        start: ``"paper"``, or ``"identity"``: the layer gives every map back bit by bit and learns from there. The gate
            is then the one of the same kind that is 1 at 0, such as 2 * sigmoid, and what gives its logits starts at
            zero. The layer's config, and so a ``.keras`` file, says which.
        data_format: ``"channels_last"`` or ``"channels_first"``; None: ``keras.config.image_data_format()``.
        **kwargs: of ``keras.Layer``: ``name``, ``dtype``, ``trainable``.

    Shapes: (N, H, W, C), or (N, L, C) or (N, D, H, W, C), or each with channels first -> the same, in the dtype that
    the layer computes in.

    Raises:
        InputError: an unknown name, a gate that is nowhere 1 with a slope, a map whose rank is not among ``ranks``, or
            whose channels are not known.
    """

    squeeze: str = "avg"
    ranks: tuple[int, ...] = (3, 4, 5)

    def __init__(self, *, gate: Gate, start: Start, data_format: DataFormat | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gate = gate
        self.start = start
        self.data_format = data_format or keras.config.image_data_format()
        pick("data_format", self.data_format, {"channels_last": -1, "channels_first": 1})
        pick("start", start, {"paper": None, "identity": None})
        pick("gate", gate, GATES)
        if start == "identity" and gate not in _ONE_AT_ZERO:
            raise InputError(
                f"start is 'identity', but gate {gate!r} has no slope at 0; accepted: "
                f"{', '.join(map(repr, _ONE_AT_ZERO))}"
            )

    def channels(self, shape: Shape) -> int:
        """Channels C of a map of this shape, batch first."""
        name = type(self).__name__
        if len(shape) not in self.ranks:
            accepted = ", ".join(map(str, self.ranks))
            raise InputError(f"{name} got a map of shape {tuple(shape)}, rank {len(shape)}; accepted ranks: {accepted}")
        channels = shape[-1 if self.data_format == "channels_last" else 1]
        if channels is None:
            raise InputError(
                f"{name} got a map of shape {tuple(shape)}, whose channels are not known ({self.data_format}); "
                "give the input its channels, or another data_format"
            )
        return int(channels)

    def inner(self, **more: Any) -> dict[str, Any]:
        """Arguments that the layers inside share: they compute in the dtype of their weights, not of the map."""
        return {"dtype": self.variable_dtype, **more}

    def excite(self, z: Any) -> Any:
        """From what the squeeze gives, (N, 1, 1, C), (N, H, W, C) or of another rank, to logits, channels last."""
        raise NotImplementedError(f"{type(self).__name__} defines no excitation")

    def squeezed(self, u: Any) -> Any:
        """Squeezes a map to (N, 1, 1, C) or, with no squeeze, (N, H, W, C), in float32 or wider, channels last."""
        axes = range(1, len(u.shape) - 1) if self.data_format == "channels_last" else range(2, len(u.shape))
        return self._last(SQUEEZES[self.squeeze](u, tuple(axes)))  # type: ignore[index]

    def gates(self, u: Any) -> Any:
        """The gate of a map: (N, 1, 1, C), or (N, C, 1, 1) with channels first, in float32 or wider."""
        gate = (_ONE_AT_ZERO if self.start == "identity" else GATES)[self.gate]
        s = gate(ops.cast(self.excite(self.squeezed(u)), wide(u)))
        return s if self.data_format == "channels_last" else ops.moveaxis(s, -1, 1)

    def _last(self, u: Any) -> Any:
        return u if self.data_format == "channels_last" else ops.moveaxis(u, 1, -1)

    def call(self, inputs: Any) -> Any:
        # Keras casts floats only, and a gate as a whole number would be 0
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(inputs.dtype)):
            inputs = ops.cast(inputs, self.compute_dtype)
        return inputs * ops.cast(self.gates(inputs), inputs.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gate": self.gate, "start": self.start, "data_format": self.data_format}
