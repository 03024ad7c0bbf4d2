"""The weights that a training starts from, a function of the seed."""

from __future__ import annotations

import torch
from torch import nn

from senet.models.net import Net
from senet.models.registry import model_config, model_entry
from senet.train.recipe import Model
from senet.train.rundir import build_model

__all__ = ["initial_model", "share_weights"]


def initial_model(spec: Model, channels: int, num_classes: int, *, seed: int) -> Net:
    """The recipe's network with the weights that a seed gives.

    A network with blocks starts with the weights of its plain twin wherever the twin has them, by name and shape: of
    two arms of a comparison, the shared weights are equal at the start, not only equally distributed. The weights of
    the blocks are drawn after all of these. Sets PyTorch's global generator.

    Args:
        spec: the network.
        channels: of the images.
        num_classes: outputs of the classifier.
        seed: decides all weights.

    Raises:
        InputError: as :func:`senet.train.rundir.build_model`.
    """
    torch.manual_seed(seed)
    config = model_config(spec.name, spec.options)
    if config.attn is None:
        return build_model(spec, channels, num_classes)
    twin = model_entry(spec.name).net(config.without_blocks(num_classes=num_classes, in_chans=channels))
    model = build_model(spec, channels, num_classes)
    share_weights(model, twin)
    return model


def share_weights(model: nn.Module, twin: nn.Module) -> None:
    """Gives a network the weights of another wherever both have them, by name and shape."""
    own = model.state_dict()
    shared = {
        name: value for name, value in twin.state_dict().items() if name in own and own[name].shape == value.shape
    }
    model.load_state_dict(shared, strict=False)
