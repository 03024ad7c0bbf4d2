"""Squeeze-and-excitation for Keras, and the form of it without a bottleneck."""

from __future__ import annotations

from typing import Any

import keras

from senet.blocks.stages import Activation, Gate, Squeeze
from senet.blocks.width import Rounding, hidden_width
from senet.keras.stages import ACTIVATIONS, SQUEEZES, DataFormat, Recalibrate, Shape, Start, he_normal, pick

__all__ = ["EffectiveSE", "SqueezeExcite"]


@keras.saving.register_keras_serializable(package="senet")
class SqueezeExcite(Recalibrate):
    """Squeeze-and-excitation: x = u * sigmoid(W2 relu(W1 z)), z the global average of u.

    Hu et al., "Squeeze-and-Excitation Networks", arXiv 1709.01507v4, equations 2 to 4; the Keras layer of
    :class:`senet.SqueezeExcite`, with its options but for ``channels``, which the map says. Its two layers are Dense,
    ``fc1`` and ``fc2``.

    Differs from the paper: the formula has no biases, the released networks have them, so ``bias`` is True by default.

    Args:
        reduction: the paper's r, hidden width C / r (Table 10). None means 16 unless ``hidden_channels`` is given.
        hidden_channels: the hidden width itself.
        rounding: how C / r becomes a whole number: ``"paper"``, ``"timm"``, ``"torchvision"``.
        bias: whether both layers have biases.
        squeeze: ``"avg"``, ``"max"`` (Table 11), or ``"none"`` (Table 16: a gate for every position).
        activation: the inner non-linearity: ``"relu"``, ``"silu"``, ``"gelu"``, ``"hard_swish"``, ``"leaky_relu"``.
        gate: the final non-linearity (Table 12): ``"sigmoid"``, ``"hard_sigmoid"``, ``"hard_sigmoid_0.2"``,
            ``"double_sigmoid"``, ``"tanh"``, ``"relu"``.
        start: ``"paper"``: He's normal initialisation by fan-out, biases zero; ``"identity"``: the map comes back bit
            by bit at first, see :class:`senet.keras.stages.Recalibrate`.
        data_format: ``"channels_last"`` or ``"channels_first"``; None: ``keras.config.image_data_format()``.
        **kwargs: of ``keras.Layer``: ``name``, ``dtype``, ``trainable``.

    Shapes: (N, H, W, C), (N, L, C) or (N, D, H, W, C), or each with channels first -> the same, in the dtype that the
    layer computes in.

    Raises:
        InputError: ``reduction`` and ``hidden_channels`` both given, a width below 1, an unknown name, or a map of
            another rank.
    """

    def __init__(
        self,
        *,
        reduction: float | None = None,
        hidden_channels: int | None = None,
        rounding: Rounding = "paper",
        bias: bool = True,
        squeeze: Squeeze = "avg",
        activation: Activation = "relu",
        gate: Gate = "sigmoid",
        start: Start = "paper",
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(gate=gate, start=start, data_format=data_format, **kwargs)
        hidden_width(1, reduction=reduction, hidden_channels=hidden_channels, rounding=rounding)  # refuses at once
        pick("squeeze", squeeze, SQUEEZES)
        pick("activation", activation, ACTIVATIONS)
        self.reduction = reduction
        self.hidden_channels = hidden_channels
        self.rounding = rounding
        self.bias = bias
        self.squeeze = squeeze
        self.activation = activation

    def build(self, input_shape: Shape) -> None:
        """Makes both layers, for the channels of a map of this shape."""
        channels = self.channels(input_shape)
        hidden = hidden_width(
            channels,
            reduction=self.reduction,
            hidden_channels=self.hidden_channels,
            rounding=self.rounding,
        )
        last = keras.initializers.Zeros() if self.start == "identity" else he_normal()
        self.fc1 = keras.layers.Dense(
            hidden, use_bias=self.bias, kernel_initializer=he_normal(), **self.inner(name="fc1")
        )
        self.fc2 = keras.layers.Dense(channels, use_bias=self.bias, kernel_initializer=last, **self.inner(name="fc2"))
        # Built here, not at the first call: a file's weights are read into them before there is one
        self.fc1.build((None, channels))
        self.fc2.build((None, hidden))
        self.built = True

    def excite(self, z: Any) -> Any:
        """W2 act(W1 z) (eq. 3 before the gate): (..., C) -> (..., C)."""
        return self.fc2(ACTIVATIONS[self.activation](self.fc1(z)))

    def get_config(self) -> dict[str, Any]:
        own = ("reduction", "hidden_channels", "rounding", "bias", "squeeze", "activation")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


@keras.saving.register_keras_serializable(package="senet")
class EffectiveSE(Recalibrate):
    """Effective SE: x = u * hard_sigmoid(W z + b), z the global average of u.

    Lee and Park, "CenterMask: Real-Time Anchor-Free Instance Segmentation", arXiv 1911.06667, section 3.3; the Keras
    layer of :class:`senet.EffectiveSE`. Its layer is a Dense, ``fc``.

    Differs from the paper: nowhere; the hard sigmoid is relu6(x + 3) / 6.

    Args:
        gate: the final non-linearity.
        start: ``"paper"``: He's normal initialisation by fan-out, bias zero; ``"identity"``: the map comes back bit by
            bit at first.
        data_format: ``"channels_last"`` or ``"channels_first"``; None: ``keras.config.image_data_format()``.
        **kwargs: of ``keras.Layer``: ``name``, ``dtype``, ``trainable``.

    Shapes: (N, H, W, C), (N, L, C) or (N, D, H, W, C), or each with channels first -> the same, in the dtype that the
    layer computes in.

    Raises:
        InputError: an unknown name, or a map of another rank.
    """

    def __init__(
        self,
        *,
        gate: Gate = "hard_sigmoid",
        start: Start = "paper",
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(gate=gate, start=start, data_format=data_format, **kwargs)

    def build(self, input_shape: Shape) -> None:
        """Makes the layer, for the channels of a map of this shape."""
        channels = self.channels(input_shape)
        first = keras.initializers.Zeros() if self.start == "identity" else he_normal()
        self.fc = keras.layers.Dense(channels, kernel_initializer=first, **self.inner(name="fc"))
        self.fc.build((None, channels))
        self.built = True

    def excite(self, z: Any) -> Any:
        """W z + b: (N, 1, 1, C) -> (N, 1, 1, C)."""
        return self.fc(z)
