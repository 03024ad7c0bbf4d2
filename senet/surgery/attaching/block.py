"""A new block for a place: started as asked, and like its neighbours in device, dtype, mode and memory format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from senet.blocks import SqueezeExcite, create_block, start_as_identity
from senet.errors import InputError
from senet.surgery.graph.modules import evaluating

__all__ = ["Start", "new_block"]

Start = Literal["identity", "paper"]


def new_block(
    name: str, channels: int, start: Start, options: Mapping[str, Any], model: nn.Module, neighbour: nn.Module
) -> nn.Module:
    """A block for the map that a module of a model gives.

    Args:
        name: of the block.
        channels: of the map.
        start: ``"identity"`` or ``"paper"``.
        options: the block's.
        model: says device, dtype and memory format where the neighbour has nothing to say them by.
        neighbour: gives the map.

    Raises:
        InputError: the block is unknown, is wrongly described, or cannot start as the identity.
    """
    block = create_block(name, channels, options)
    if start == "identity":
        try:
            start_as_identity(block)
        except InputError as error:
            raise InputError(f"{error}; attach it with start='paper'") from error
    elif type(block) is SqueezeExcite:
        _start_as_the_authors(block)
    near = _nearest(model, neighbour)
    like = next((t for t in near if t.is_floating_point()), None)
    if like is not None:
        block.to(like.device, like.dtype)
    weights = next((t for t in near if t.ndim == 4), None)
    if weights is not None and _is_channels_last(weights):
        block.to(memory_format=torch.channels_last)
    block.train(neighbour.training)
    if start == "identity":
        _assert_identity(block, channels)
    return block


def _start_as_the_authors(block: nn.Module) -> None:
    """He's normal initialisation by fan-out (arXiv 1502.01852), as all of the authors' networks; biases zero."""
    for layer in block.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _nearest(model: nn.Module, neighbour: nn.Module) -> list[Tensor]:
    """All parameters and buffers, the neighbour's own first, then those before it from the last, then those after."""
    modules = list(model.modules())
    index = modules.index(neighbour)
    inside = list(neighbour.modules())
    outside = [m for m in (*modules[:index][::-1], *modules[index + 1 :]) if m not in set(inside)]
    return [t for m in (*inside, *outside) for t in (*m._parameters.values(), *m._buffers.values()) if t is not None]


def _is_channels_last(weights: Tensor) -> bool:
    """Whether weights lie in memory with channels last, and not as by default."""
    like = torch.empty(weights.shape, device="meta")
    strides = {form: like.to(memory_format=form).stride() for form in (torch.channels_last, torch.contiguous_format)}
    return weights.stride() == strides[torch.channels_last] != strides[torch.contiguous_format]


def _assert_identity(block: nn.Module, channels: int) -> None:
    """Proves on a random map that a block gives it back bit by bit."""
    like = next(block.parameters(), torch.empty(0))
    u = torch.randn(2, channels, 3, 3, dtype=like.dtype, device=like.device)
    with evaluating(block), torch.no_grad():
        if not torch.equal(block(u), u):
            raise InputError(f"{type(block).__name__} does not start as the identity; attach it with start='paper'")
