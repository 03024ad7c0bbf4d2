"""PaddleOCR's classifier of text lines under our names.

Two of PaddlePaddle's habits are undone, so that the network takes what everyone else's do: images' channels are blue,
green, red, and linear layers' weights are (inputs, outputs).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["ABOUT", "from_paddle", "is_paddle"]

# What a file of ours would say of itself
ABOUT: Mapping[str, Any] = {"model": "paddle_textline_cls", "options": {}, "classes": ["0", "180"]}

_STEM, _CLASSIFIER = "conv1_weights", "fc_0.w_0"
_UNITS = range(11)  # theirs begin at conv2
_PARTS = {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "linear": ("conv_pwl", "bn3")}
_NORM = {"scale": "weight", "offset": "bias", "mean": "running_mean", "variance": "running_var"}


def is_paddle(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the names of PaddleOCR's classifiers."""
    return tensors.keys() >= {_STEM, _CLASSIFIER}


def from_paddle(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state_dict of ``paddle_textline_cls`` from tensors under PaddleOCR's names.

    Norms' counts of batches, which PaddlePaddle does not keep, are missing. A name that the network does not have stays
    as it is.
    """
    ours = _names()
    state = {ours.get(name, name): tensor for name, tensor in tensors.items()}
    state["conv_stem.weight"] = state["conv_stem.weight"].flip(1)
    state["classifier.weight"] = state["classifier.weight"].T.contiguous()
    return state


def _names() -> dict[str, str]:
    """PaddleOCR's name -> ours."""
    layers = {"conv1": ("conv_stem", "bn1"), "conv_last": ("conv_head", "bn2")}
    names = {_CLASSIFIER: "classifier.weight", "fc_0.b_0": "classifier.bias"}
    for unit in _UNITS:
        place, theirs = f"blocks.{unit}", f"conv{unit + 2}"
        layers |= {f"{theirs}_{part}": (f"{place}.{conv}", f"{place}.{norm}") for part, (conv, norm) in _PARTS.items()}
        for k in (1, 2):
            names[f"{theirs}_se_{k}_weights"] = f"{place}.se.fc{k}.weight"
            names[f"{theirs}_se_{k}_offset"] = f"{place}.se.fc{k}.bias"
    for theirs, (conv, norm) in layers.items():
        names[f"{theirs}_weights"] = f"{conv}.weight"
        names |= {f"{theirs}_bn_{leaf}": f"{norm}.{ours}" for leaf, ours in _NORM.items()}
    return names
