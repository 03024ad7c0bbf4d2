"""Weights copied between modules of PyTorch and their counterparts in Keras, either way, by one table of pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import torch
from torch import Tensor, nn

from senet.errors import InputError

__all__ = ["copy_weights"]

# Names of the same things, by the kind of layer
_NAMES = {"weight": "kernel", "bias": "bias"}
_NORM_NAMES = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


@dataclass(frozen=True)
class _Pair:
    """The same numbers twice: a tensor of a module and a variable of a Keras layer."""

    tensor: Tensor
    variable: Any

    def into_keras(self) -> None:
        array = _spatial_first(self.tensor.detach().cpu().double())
        self.variable.assign(array.reshape(tuple(self.variable.shape)).numpy())

    def into_torch(self) -> None:
        array = torch.tensor(keras.ops.convert_to_numpy(self.variable.value).astype("float64"))
        with torch.no_grad():
            self.tensor.copy_(_channels_first(array.reshape(_spatial_first(self.tensor).shape)))


def copy_weights(source: Any, target: Any) -> None:
    """Copies all weights and running statistics of a PyTorch module into its Keras counterpart, or the other way.

    Counterparts are what :func:`senet.keras.from_torch` and :func:`senet.keras.to_torch` make: layers and blocks with
    the same options, networks and the models made of them, also after training. Kernels are transposed: a 1x1
    convolution (out, in, 1, 1) is a Dense kernel (in, out), another one (out, in, kh, kw) is (kh, kw, in, out). Numbers
    are converted to the target's dtype, and are otherwise the same bits.

    Args:
        source: a block or network of senet, or a Keras layer or model, built.
        target: its counterpart, built; written in place.

    Raises:
        InputError: not one of each, or they are no counterparts: a weight has no partner, or one of another shape.
            Nothing is written then.
    """
    if _is_torch(source) and isinstance(target, keras.Layer):
        for pair in list(_pairs(source, target)):  # all pairs before the first copy
            pair.into_keras()
    elif isinstance(source, keras.Layer) and _is_torch(target):
        for pair in list(_pairs(target, source)):
            pair.into_torch()
    else:
        raise InputError(
            f"copy_weights was given {type(source).__name__} and {type(target).__name__}; accepted: one PyTorch module "
            "and one Keras layer or model, in either order"
        )


def _is_torch(side: Any) -> bool:
    """Whether it is PyTorch's: under the backend torch, a Keras layer is a module too."""
    return isinstance(side, nn.Module) and not isinstance(side, keras.Layer)


def _spatial_first(weight: Tensor) -> Tensor:
    """(out, in, kh, kw) as (kh, kw, in, out), and so for any number of axes; a vector stays."""
    return weight.permute(*range(2, weight.ndim), 1, 0) if weight.ndim > 1 else weight


def _channels_first(kernel: Tensor) -> Tensor:
    """Undoes :func:`_spatial_first`."""
    return kernel.permute(-1, -2, *range(kernel.ndim - 2)) if kernel.ndim > 1 else kernel


def _pairs(module: nn.Module, layer: Any) -> Iterator[_Pair]:
    """Every tensor of a module with its variable.

    Raises:
        InputError: one of either is alone, or their shapes differ.
    """
    seen: set[int] = set()
    for path, part in module.named_modules():
        own = {**dict(part.named_parameters(recurse=False)), **dict(part.named_buffers(recurse=False))}
        own.pop("num_batches_tracked", None)  # Keras has none
        if not own:
            continue
        theirs = _counterpart(layer, path, module)
        names = _NORM_NAMES if isinstance(part, nn.modules.batchnorm._BatchNorm) else _NAMES
        for name, tensor in own.items():
            variable = getattr(theirs, names.get(name, name), None)
            if variable is None:
                raise InputError(f"{theirs.name} of {layer.name} has no {name}, which {_said(path, module)} has")
            shape = tuple(_spatial_first(tensor).shape)
            if shape != tuple(variable.shape) and shape != (1, 1, *variable.shape):
                raise InputError(
                    f"{name} of {_said(path, module)} is of shape {tuple(tensor.shape)}, {variable.path} of "
                    f"{tuple(variable.shape)}; give counterparts with the same options"
                )
            seen.add(id(variable))
            yield _Pair(tensor, variable)
    if alone := [variable.path for variable in layer.weights if id(variable) not in seen]:
        raise InputError(
            f"{layer.name} has weights that {type(module).__name__} has not: {', '.join(alone[:3])}"
            f"{' ...' if len(alone) > 3 else ''}; give counterparts with the same options"
        )


def _counterpart(layer: Any, path: str, module: nn.Module) -> Any:
    """The Keras layer at a module's path: a model's layers are named by it with ``_``, a layer's parts are attributes.

    Raises:
        InputError: there is none.
    """
    parts = path.split(".") if path else []
    at: Any = layer
    if isinstance(layer, keras.Model):
        names = {inner.name: inner for inner in layer.layers}
        lengths = [k for k in range(len(parts), 0, -1) if "_".join(parts[:k]) in names]
        if not lengths:
            raise InputError(f"{layer.name} has no layer {'_'.join(parts)!r}, the counterpart of {_said(path, module)}")
        at, parts = names["_".join(parts[: lengths[0]])], parts[lengths[0] :]
    for part in parts:
        at = getattr(at, part, None)
        if not isinstance(at, keras.Layer):
            raise InputError(f"{layer.name} has no {part!r}, the counterpart of {_said(path, module)}")
    if not at.built:
        raise InputError(f"{at.name} has no weights yet; call it once, or build it for the shape of its maps")
    return at


def _said(path: str, module: nn.Module) -> str:
    return f"{path} of {type(module).__name__}" if path else type(module).__name__
