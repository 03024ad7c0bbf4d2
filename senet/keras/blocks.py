"""A Keras layer for a block of ours, and a block for a layer: the same options, not yet the same weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

from torch import nn

from senet.blocks import BLOCKS, CBAM, ECA, EffectiveSE, SqueezeExcite
from senet.blocks.stages import (
    Activation,
    Doubled,
    Gate,
    OnePlus,
    activation_stage,
    gate_stage,
    squeeze_stage,
)
from senet.errors import InputError, did_you_mean
from senet.keras import cbam, eca, se
from senet.keras.stages import SQUEEZES
from senet.options import checked

__all__ = ["LAYERS", "block_like", "create_layer", "layer_like"]

# By the names of senet.blocks.BLOCKS
LAYERS: dict[str, Any] = {"se": se.SqueezeExcite, "ese": se.EffectiveSE, "eca": eca.ECA, "cbam": cbam.CBAM}


def create_layer(block: str, options: Mapping[str, Any], **more: Any) -> Any:
    """A Keras layer by the name of its block.

    Args:
        block: of :data:`LAYERS`.
        options: the layer's own, checked by name and type.
        **more: those of ``keras.Layer``.

    Raises:
        InputError: there is no such layer, or no such option; the nearest are named.
    """
    if block not in LAYERS:
        raise InputError(f"no Keras layer is called {block!r}{did_you_mean(str(block), LAYERS)}")
    return LAYERS[block](**checked(LAYERS[block], options, what=f"block {block!r}"), **more)


def layer_like(block: nn.Module, **more: Any) -> Any:
    """A Keras layer that computes what a block does, given its weights; not built.

    Args:
        block: a ``SqueezeExcite``, ``EffectiveSE``, ``ECA`` or ``CBAM`` of senet.
        **more: further arguments of the layer: ``data_format``, ``name``, ``dtype``.

    Raises:
        InputError: another module, or one whose parts were replaced by others.
    """
    kind = next((name for name in LAYERS if type(block) is BLOCKS[name]), None)
    if kind is None:
        accepted = ", ".join(BLOCKS[name].__name__ for name in LAYERS)
        raise InputError(
            f"{type(block).__name__} has no counterpart in Keras; accepted: {accepted}, and residual networks with them"
        )
    return LAYERS[kind](**_options(block), **more)


def block_like(layer: Any) -> nn.Module:
    """A block that computes what a Keras layer does, given its weights; the reverse of :func:`layer_like`.

    Args:
        layer: built.

    Raises:
        InputError: not a layer of senet.keras, or not built.
    """
    kind = next((name for name, known in LAYERS.items() if type(layer) is known), None)
    if kind is None:
        accepted = ", ".join(known.__name__ for known in LAYERS.values())
        raise InputError(f"{type(layer).__name__} has no counterpart in senet.blocks; accepted: {accepted}")
    if not layer.built:
        raise InputError(f"{layer.name} has no weights yet; call it once, or build it for the shape of its maps")
    config = layer.get_config()
    channels, options = _sizes(layer)
    names = {"bias", "squeeze", "activation", "gate"} & config.keys()
    block = BLOCKS[kind](channels, **options, **{name: config[name] for name in names})
    if config["start"] == "identity":
        block.start_as_identity()  # type: ignore[operator]
    return block


def _sizes(layer: Any) -> tuple[int, dict[str, Any]]:
    """Channels of a layer's maps, and the sizes that its options, or rules of them, led to."""
    if isinstance(layer, eca.ECA):
        return 1, {"kernel_size": layer.conv.kernel_size[0]}  # which is all that channels decide
    if isinstance(layer, se.EffectiveSE):
        return layer.fc.units, {}
    if isinstance(layer, cbam.CBAM):
        channels, options = _sizes(layer.channel)
        return channels, {**options, "spatial_kernel": layer.spatial_kernel}
    return layer.fc2.units, {"hidden_channels": layer.fc1.units}


def _options(block: nn.Module) -> dict[str, Any]:
    """The options of the layer for a block, read from its parts."""
    if isinstance(block, CBAM):
        of_channel = _gate(block.channel.gate, "CBAM")
        if _gate(block.spatial.gate, "CBAM") != of_channel:
            raise InputError("this CBAM has two kinds of gates; accepted: the same for channels and positions")
        return {**_widths(block.channel), **of_channel, "spatial_kernel": block.spatial.conv.kernel_size[0]}
    assert isinstance(block, (SqueezeExcite, EffectiveSE, ECA))
    options = _gate(block.gate, type(block).__name__)
    if isinstance(block, ECA):
        return {**options, "kernel_size": block.conv.kernel_size[0]}
    if isinstance(block, EffectiveSE):
        return options
    return {
        **options,
        **_widths(block),
        "squeeze": _name("squeeze", block.squeeze, squeeze_stage, tuple(SQUEEZES)),
        "activation": _name("activation", block.act, activation_stage, get_args(Activation)),
    }


def _widths(block: SqueezeExcite) -> dict[str, Any]:
    return {"hidden_channels": block.fc1.out_channels, "bias": block.fc1.bias is not None}


def _gate(gate: nn.Module, block: str) -> dict[str, Any]:
    """A gate's name and start: those that are 1 at 0 are the starts of others."""
    inner = gate.gate if isinstance(gate, (Doubled, OnePlus)) else gate
    name = _name(f"gate of {block}", inner, gate_stage, get_args(Gate))
    if isinstance(gate, OnePlus) != (name == "tanh") and inner is not gate:
        raise InputError(f"gate of {block} is {type(gate).__name__} of {name!r}, which has no counterpart in Keras")
    return {"gate": name, "start": "paper" if inner is gate else "identity"}


def _name(what: str, part: nn.Module, make: Callable[[Any], nn.Module], names: tuple[str, ...]) -> str:
    """The name by which a stage was made: of those that print as it does."""
    for name in names:
        if repr(make(name)) == repr(part):
            return name
    said = " ".join(repr(part).split())
    raise InputError(f"{what} is {said}, which has no counterpart in Keras; accepted: {', '.join(map(repr, names))}")
