"""CBAM for Keras: a gate for each channel, then a gate for each position."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from senet.blocks.stages import Gate
from senet.blocks.width import Rounding
from senet.errors import InputError
from senet.keras.se import SqueezeExcite
from senet.keras.stages import DataFormat, Recalibrate, Shape, Start, he_normal, wide

__all__ = ["CBAM", "ChannelAttention", "SpatialAttention"]


class ChannelAttention(SqueezeExcite):
    """CBAM's channel gate: sigmoid(mlp(avg(u)) + mlp(max(u))), one MLP for both (arXiv 1807.06521, eq. 2).

    Arguments as in :class:`SqueezeExcite`, which this is but for its squeeze.
    """

    ranks = (4,)

    def squeezed(self, u: Any) -> Any:
        """Average and maximum over positions, side by side: (N, 2, 1, C), channels last."""
        positions = (1, 2) if self.data_format == "channels_last" else (2, 3)
        average = ops.mean(ops.cast(u, wide(u)), axis=positions)
        return ops.stack([average, ops.cast(ops.max(u, axis=positions), wide(u))], axis=1)[:, :, None]

    def excite(self, z: Any) -> Any:
        """The sum of both logits: (N, 2, 1, C) -> (N, 1, 1, C)."""
        return ops.sum(super().excite(z), axis=1, keepdims=True)


class SpatialAttention(Recalibrate):
    """CBAM's spatial gate: sigmoid(bn(conv_k([max_c(u), mean_c(u)]))) (arXiv 1807.06521, eq. 3).

    Differs from the paper: the formula has no norm; the authors' code, followed here, normalises the logits
    (eps 1e-5, momentum 0.99 as Keras counts it).
    """

    ranks = (4,)

    def __init__(
        self, *, kernel_size: int, gate: Gate, start: Start, data_format: DataFormat | None, **kwargs: Any
    ) -> None:
        super().__init__(gate=gate, start=start, data_format=data_format, **kwargs)
        self.kernel_size = kernel_size

    def build(self, input_shape: Shape) -> None:
        """Makes convolution and norm."""
        self.channels(input_shape)
        # Channels last whatever the map has: there are two, and a CPU convolves no others under TensorFlow
        self.conv = keras.layers.Conv2D(
            1,
            self.kernel_size,
            padding="same",
            data_format="channels_last",
            use_bias=False,
            kernel_initializer=he_normal(),
            **self.inner(name="conv"),
        )
        gamma = "zeros" if self.start == "identity" else "ones"
        self.bn = keras.layers.BatchNormalization(
            momentum=0.99, epsilon=1e-5, gamma_initializer=gamma, **self.inner(name="bn")
        )
        self.conv.build((None, None, None, 2))
        self.bn.build((None, None, None, 1))
        self.built = True

    def squeezed(self, u: Any) -> Any:
        """Maximum and mean over channels, at each position: (N, H, W, 2), channels last."""
        axis = -1 if self.data_format == "channels_last" else 1
        return ops.stack([ops.cast(ops.max(u, axis=axis), wide(u)), ops.mean(ops.cast(u, wide(u)), axis=axis)], axis=-1)

    def excite(self, z: Any) -> Any:
        """One logit for each position: (N, H, W, 2) -> (N, H, W, 1)."""
        return self.bn(self.conv(z))


@keras.saving.register_keras_serializable(package="senet")
class CBAM(keras.Layer):
    """Convolutional block attention: v = u * sigmoid(mlp(avg(u)) + mlp(max(u))), x = v * sigmoid(bn(conv_k(v))).

    Woo et al., "CBAM: Convolutional Block Attention Module", arXiv 1807.06521, section 3, with the details of the
    authors' code; the Keras layer of :class:`senet.CBAM`. The convolution sees v's maximum and mean over channels, at
    each position. Its parts are ``channel`` (``fc1``, ``fc2``) and ``spatial`` (``conv``, ``bn``).

    Differs from the paper: its formula has no norm; the authors' code, followed here, normalises the logits of
    positions (eps 1e-5, momentum 0.99 as Keras counts it).

    Args:
        reduction: ratio r of the channel gate; None means 16 unless ``hidden_channels`` is given.
        hidden_channels: its hidden width itself.
        rounding: how C / r becomes a whole number.
        bias: whether its layers have biases.
        spatial_kernel: odd kernel size of the spatial gate.
        gate: the final non-linearity of both.
        start: ``"paper"``: He's normal initialisation by fan-out, biases zero; ``"identity"``: the map comes back bit
            by bit at first.
        data_format: ``"channels_last"`` or ``"channels_first"``; None: ``keras.config.image_data_format()``.
        **kwargs: of ``keras.Layer``: ``name``, ``dtype``, ``trainable``.

    Shapes: (N, H, W, C), or (N, C, H, W) with channels first -> the same, in the dtype that the layer computes in.

    Raises:
        InputError: an even kernel, both widths given, a width below 1, an unknown name, or a map of another rank.
    """

    def __init__(
        self,
        *,
        reduction: float | None = None,
        hidden_channels: int | None = None,
        rounding: Rounding = "paper",
        bias: bool = True,
        spatial_kernel: int = 7,
        gate: Gate = "sigmoid",
        start: Start = "paper",
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if spatial_kernel < 1 or spatial_kernel % 2 == 0:
            raise InputError(
                f"spatial_kernel is {spatial_kernel}; accepted: an odd number, so that the map keeps its size"
            )
        self.spatial_kernel = spatial_kernel
        self.channel = ChannelAttention(
            reduction=reduction,
            hidden_channels=hidden_channels,
            rounding=rounding,
            bias=bias,
            gate=gate,
            start=start,
            data_format=data_format,
            name="channel",
            dtype=self.dtype_policy,
        )
        self.spatial = SpatialAttention(
            kernel_size=spatial_kernel,
            gate=gate,
            start=start,
            data_format=data_format,
            name="spatial",
            dtype=self.dtype_policy,
        )

    @property
    def data_format(self) -> str:
        """``"channels_last"`` or ``"channels_first"``."""
        return self.channel.data_format

    def build(self, input_shape: Shape) -> None:
        """Makes the layers of both gates, for the channels of a map of this shape."""
        self.channel.build(input_shape)
        self.spatial.build(input_shape)
        self.built = True

    def call(self, inputs: Any) -> Any:
        return self.spatial(self.channel(inputs))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        of_channel = self.channel.get_config()
        own = ("reduction", "hidden_channels", "rounding", "bias", "gate", "start", "data_format")
        return {
            **super().get_config(),
            **{name: of_channel[name] for name in own},
            "spatial_kernel": self.spatial_kernel,
        }
