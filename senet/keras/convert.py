"""From PyTorch to Keras and back, weights included."""

from __future__ import annotations

from typing import Any

import keras
from torch import nn

from senet.errors import InputError
from senet.keras.blocks import block_like, layer_like
from senet.keras.resnet import resnet_like
from senet.keras.stages import DataFormat
from senet.keras.weights import copy_weights
from senet.models import ResNet
from senet.models import create_model as create_torch_model

__all__ = ["create_model", "from_torch", "to_torch"]


def from_torch(module: nn.Module, *, data_format: DataFormat | None = None, **kwargs: Any) -> Any:
    """The Keras counterpart of a block or a residual network of senet, with the same weights.

    Args:
        module: a :class:`senet.SqueezeExcite`, :class:`senet.EffectiveSE`, :class:`senet.ECA`, :class:`senet.CBAM`, or
            a residual network of :func:`senet.create_model` with basic or bottleneck units: ``"seresnet50"``,
            ``"cifar_seresnet20"``, any placement, any of those blocks, or none.
        data_format: ``"channels_last"`` or ``"channels_first"``; None: ``keras.config.image_data_format()``.
            (TensorFlow convolves channels-first images on a GPU only.)
        **kwargs: of a block's layer: ``name``, ``dtype``, ``trainable``.

    Returns:
        A built layer, or a Functional model: images -> logits, of any size that the network takes.

    Raises:
        InputError: another module, or options that Keras has no counterpart for here: pre-activation units, a pool that
            rounds up (the ``_caffe`` networks), stochastic depth, no classifier.

    Differs from PyTorch: the norms of a model being trained keep the batch's biased variance, as Keras's do.

    Example:
        >>> model = from_torch(senet.create_model("seresnet50", pretrained=True))
    """
    data_format = data_format or keras.config.image_data_format()
    if isinstance(module, ResNet):
        if kwargs:
            raise InputError(f"{', '.join(kwargs)}: accepted for a block, but {type(module).__name__} is a network")
        target = resnet_like(module, data_format)
    else:
        target = layer_like(module, data_format=data_format, **kwargs)
        channels = _channels(module)
        target.build((None, None, None, channels) if data_format == "channels_last" else (None, channels, None, None))
    copy_weights(module, target)
    return target


def to_torch(layer: Any) -> nn.Module:
    """The block of senet that computes what a Keras layer does, with the same weights; reverse of :func:`from_torch`.

    Args:
        layer: a built layer of senet.keras. (A model goes back by :func:`senet.keras.copy_weights` into a network of
            :func:`senet.create_model`.)

    Returns:
        The block, in evaluation mode.

    Raises:
        InputError: another layer, or one without weights yet.
    """
    block = block_like(layer)
    copy_weights(layer, block)
    return block.eval()


def create_model(name: str, *, data_format: DataFormat | None = None, **options: Any) -> keras.Model:
    """A residual network by its name, as a Functional Keras model: :func:`senet.create_model`, then :func:`from_torch`.

    Fresh weights are PyTorch's, which ``torch.manual_seed`` seeds, not ``keras.utils.set_random_seed``. How images are
    brought to pretrained ones, ``loaded.preprocessing`` of PyTorch's network says; no layer here does it.

    Args:
        name: ``"seresnet50"``, ``"cifar_seresnet20"`` ...
        data_format: as of :func:`from_torch`.
        **options: as of :func:`senet.create_model`: ``num_classes=10``, ``in_chans=1``, ``pretrained=True``.

    Raises:
        InputError: as both raise it.
    """
    return from_torch(create_torch_model(name, **options), data_format=data_format)


def _channels(block: nn.Module) -> int:
    """Channels of a block's maps, as its first layer has them; any number does for ECA, whose kernel is given."""
    first = next(module for module in block.modules() if isinstance(module, (nn.Conv1d, nn.Conv2d)))
    return first.in_channels
