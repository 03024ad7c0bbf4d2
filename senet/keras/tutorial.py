"""The function that Keras tutorials call SE by, with its arguments, made of the layer."""

from __future__ import annotations

from typing import Any

from senet.errors import InputError
from senet.keras.se import SqueezeExcite

__all__ = ["squeeze_and_excitation_block"]


def squeeze_and_excitation_block(input: Any, out_dim: int, reduction_ratio: float = 16) -> Any:  # noqa: A002
    """Squeeze-and-excitation of a map, as tutorials write it: pool, Dense, ReLU, Dense, sigmoid, multiply.

    Hu et al., arXiv 1709.01507v4, equations 2 to 4. It adds one :class:`SqueezeExcite` layer, so that its weights go to
    PyTorch and back; channels are last or first as ``keras.config.image_data_format()`` says.

    Args:
        input: a map, (N, H, W, C) or (N, C, H, W).
        out_dim: its channels C.
        reduction_ratio: the paper's r: the hidden layer has C / r units, rounded down.

    Returns:
        A map of the same shape.

    Raises:
        InputError: the map has other channels than ``out_dim``, or the ratio is not above 0.

    Example:
        >>> x = keras.layers.Conv2D(64, 3, padding="same")(x)
        >>> x = squeeze_and_excitation_block(x, 64, 16)
    """
    layer = SqueezeExcite(reduction=reduction_ratio)
    channels = layer.channels(input.shape)
    if out_dim != channels:
        raise InputError(
            f"out_dim is {out_dim}, but the map of shape {tuple(input.shape)} has {channels} channels "
            f"({layer.data_format}); give out_dim={channels}"
        )
    return layer(input)
