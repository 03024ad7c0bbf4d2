"""SE put into a Functional Keras model: a copy of it with a layer behind each that was chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import keras

from senet.errors import InputError, did_you_mean
from senet.keras.blocks import create_layer
from senet.keras.stages import Start

__all__ = ["Where", "attach"]

Where = str | Sequence[str] | Callable[[Any], bool]


def attach(
    model: keras.Model,
    block: str = "se",
    *,
    where: Where,
    start: Start = "identity",
    options: Mapping[str, Any] | None = None,
) -> keras.Model:
    """A copy of a Functional model with a block behind each layer that ``where`` chooses, and the old weights.

    What takes the chosen layer's map takes the block's now; the model's output too, if that layer gives it. A layer
    that is called several times has one block for all calls. The block is named ``NAME_se`` or ``NAME_eca`` behind the
    layer ``NAME``, and has its dtype policy. Other layers keep names, weights and ``trainable``; a compiled model's
    copy is compiled alike, with a fresh optimizer. The model itself is not touched.

    Args:
        model: Functional, built: those of ``keras.applications`` are. Of a ``Sequential`` one
            ``keras.Model(model.inputs, model.outputs)`` makes a Functional one. Models inside it are single layers
            here.
        block: ``"se"``, ``"ese"``, ``"eca"`` or ``"cbam"``.
        where: names of layers, or patterns with ``*`` and ``?``, one or a list of them; or a function of a layer that
            says yes or no. In ``keras.applications``, ``"conv*_block*_3_bn"`` are the ends of ResNet-50's residual
            branches, where the paper has SE (Fig. 3); ``"block*_conv?"`` are the convolutions of VGG, with their ReLU,
            and ``"conv_dw_*_relu"`` the ends of MobileNet's depthwise ones.
        start: ``"identity"``: the model computes what it did bit by bit and learns from there; ``"paper"``: as a fresh
            block of its authors.
        options: the block's options, for example ``{"reduction": 8}``; ``data_format`` where the model's layers do not
            say it.

    Returns:
        A new Functional model with weights of its own.

    Raises:
        InputError: the model is not Functional, a name or pattern is of no layer (the nearest are named), a chosen
            layer gives no map or has a block already, the block or an option is unknown, or some layers are
            channels-first, some channels-last, and ``options`` do not say which the maps are.

    Example:
        >>> model = keras.applications.ResNet50(weights=None)
        >>> new = attach(model, where="conv*_block*_3_bn")
    """
    if not isinstance(model, keras.Model) or not hasattr(model, "operations") or isinstance(model, keras.Sequential):
        more = "; keras.Model(model.inputs, model.outputs) makes one" if isinstance(model, keras.Sequential) else ""
        raise InputError(f"attach was given {type(model).__name__}; accepted: a Functional Keras model{more}")
    chosen = _chosen(model, where)
    if options and "start" in options:
        raise InputError(f"options has start={options['start']!r}, which attach takes itself; give it beside where=")
    given = {**(options or {}), "start": start}
    if given.get("data_format") is None:
        given["data_format"] = _data_format(model)
    blocks = {}
    for layer in chosen:
        name = f"{layer.name}_{block}"
        if any(other.name == name for other in model.layers):
            raise InputError(f"{layer.name} has a block already, {name}; attach to a model without it")
        blocks[layer.name] = create_layer(block, given, name=name, dtype=layer.dtype_policy)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        outputs = layer(*args, **kwargs)
        if layer.name not in blocks:
            return outputs
        if not isinstance(outputs, keras.KerasTensor) or len(outputs.shape) not in (3, 4, 5):
            raise _gives_no_map(model, layer.name)
        return blocks[layer.name](outputs)

    copy = keras.models.clone_model(model, input_tensors=_inputs(model), call_function=call)
    for layer in model.layers:
        for old, new in zip(layer.weights, copy.get_layer(layer.name).weights, strict=True):
            new.assign(keras.ops.copy(old.value))  # JAX would share the array, and training gives its memory away
    return copy


def _inputs(model: keras.Model) -> Any:
    """Inputs like a model's, with the names of its input layers, which a clone would lose."""
    return keras.tree.map_structure(
        lambda x: keras.layers.InputLayer.from_config(x._keras_history.operation.get_config()).output, model.input
    )


def _gives_no_map(model: keras.Model, name: str) -> InputError:
    return InputError(
        f"{name} of {model.name} gives no map that a block could sit behind; accepted: layers with one output of rank "
        "3 to 5, but no inputs; leave it out of where="
    )


def _chosen(model: keras.Model, where: Where) -> list[Any]:
    """The layers behind which blocks go, in the model's order.

    Raises:
        InputError: as :func:`attach`.
    """
    layers = {layer.name: layer for layer in model.layers}
    if callable(where):
        chosen = {layer.name for layer in model.layers if where(layer)}
        if not chosen:
            raise InputError(f"where= chose none of the {len(layers)} layers of {model.name}")
    else:
        chosen = _named(model, where, list(layers))
    for name in chosen:
        if isinstance(layers[name], keras.layers.InputLayer):
            raise _gives_no_map(model, name)
    return [layer for layer in model.layers if layer.name in chosen]


def _named(model: keras.Model, where: object, names: list[str]) -> set[str]:
    patterns = [where] if isinstance(where, str) else where
    if not (isinstance(patterns, Sequence) and patterns and all(isinstance(p, str) for p in patterns)):
        raise InputError(
            f"where is {where!r}; accepted: names of layers with * and ?, a list of them, or a function of a layer"
        )
    chosen = set()
    for pattern in patterns:
        matching = {name for name in names if fnmatchcase(name, pattern)}
        if not matching:
            raise InputError(f"{model.name} has no layer {pattern!r}{did_you_mean(pattern, names)}")
        chosen |= matching
    return chosen


def _data_format(model: keras.Model) -> str:
    """Returns the data format of a model's layers, or Keras's default where none has one.

    Raises:
        InputError: layers with different data formats.
    """
    # (That of a Flatten decides nothing but the order of what it gives.)
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.Flatten)]
    said = {layer.data_format for layer in layers if getattr(layer, "data_format", None)}
    if len(said) > 1:
        raise InputError(f"layers of {model.name} have both data formats; give options={{'data_format': ...}}")
    return str(said.pop()) if said else str(keras.config.image_data_format())
