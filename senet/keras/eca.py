"""Efficient channel attention for Keras: a short convolution across channels instead of two layers."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from senet.blocks.eca import eca_kernel_size
from senet.blocks.stages import Gate
from senet.errors import InputError
from senet.keras.stages import DataFormat, Recalibrate, Shape, Start, like_torch

__all__ = ["ECA"]


@keras.saving.register_keras_serializable(package="senet")
class ECA(Recalibrate):
    """Efficient channel attention: x = u * sigmoid(conv1d_k(z)), z the global average of u.

    Wang et al., "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks", arXiv 1910.03151,
    section 3.2; the Keras layer of :class:`senet.ECA`. The convolution, ``conv``, goes across channels, without bias or
    reduction.

    Differs from the paper: nowhere in its rule for k (eq. 12); the authors' released networks have other sizes, see
    :class:`senet.ECA`.

    Args:
        kernel_size: the odd kernel size k; None: :func:`senet.blocks.eca.eca_kernel_size`.
        gamma: of the adaptive rule.
        beta: of the adaptive rule.
        gate: the final non-linearity.
        start: ``"paper"``: uniform, as a convolution of PyTorch starts; ``"identity"``: the map comes back bit by bit
            at first.
        data_format: ``"channels_last"`` or ``"channels_first"``; None: ``keras.config.image_data_format()``.
        **kwargs: of ``keras.Layer``: ``name``, ``dtype``, ``trainable``.

    Shapes: (N, H, W, C), (N, L, C) or (N, D, H, W, C), or each with channels first -> the same, in the dtype that the
    layer computes in.

    Raises:
        InputError: an even kernel size, or one below 1, an unknown name, or a map of another rank.
    """

    def __init__(
        self,
        *,
        kernel_size: int | None = None,
        gamma: float = 2,
        beta: float = 1,
        gate: Gate = "sigmoid",
        start: Start = "paper",
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(gate=gate, start=start, data_format=data_format, **kwargs)
        if kernel_size is not None and (kernel_size < 1 or kernel_size % 2 == 0):
            raise InputError(
                f"kernel_size is {kernel_size}; accepted: an odd number, so that the output has C channels"
            )
        eca_kernel_size(1, gamma=gamma, beta=beta)  # refuses at once
        self.kernel_size = kernel_size
        self.gamma = gamma
        self.beta = beta

    def build(self, input_shape: Shape) -> None:
        """Makes the convolution, for the channels of a map of this shape."""
        channels = self.channels(input_shape)
        k = self.kernel_size or eca_kernel_size(channels, gamma=self.gamma, beta=self.beta)
        self.conv = keras.layers.Conv1D(
            1,
            k,
            padding="same",
            data_format="channels_last",  # of the vector (N, C, 1), whatever the map's is
            use_bias=False,
            kernel_initializer=keras.initializers.Zeros() if self.start == "identity" else like_torch(),
            **self.inner(name="conv"),
        )
        self.conv.build((None, channels, 1))
        self.built = True

    def excite(self, z: Any) -> Any:
        """The convolution along channels: (N, 1, 1, C) -> (N, 1, 1, C)."""
        channels = z.shape[-1]
        across_channels = self.conv(ops.reshape(z, (-1, channels, 1)))
        return ops.reshape(across_channels, (-1, *(1,) * (len(z.shape) - 2), channels))

    def get_config(self) -> dict[str, Any]:
        own = ("kernel_size", "gamma", "beta")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}
