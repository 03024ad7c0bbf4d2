"""The authors' networks (github.com/hujie-frank/SENet, Caffe) as state_dicts of ours.

Two of their habits are undone, so that the networks take and give what everyone else's do: the images' channels are
blue, green, red, and output unit k is the class with ILSVRC2012_ID k + 1 instead of the k-th WordNet id.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from senet.errors import InputError, did_you_mean
from senet.models.bn_inception import BNInception
from senet.models.inception import ConvNormAct, Mixed
from senet.models.registry import build
from senet.models.resnet import ResNetConfig
from senet.models.weights.preprocessing import Preprocessing

__all__ = ["PREPROCESSING", "RELEASED", "from_caffe", "ilsvrc2012_synsets"]

RELEASED = (
    "seresnet50_caffe",
    "seresnet101_caffe",
    "seresnet152_caffe",
    "seresnext50_32x4d_caffe",
    "seresnext101_32x4d_caffe",
    "senet154_caffe",
    "sebn_inception",
)

# They subtract (104, 117, 123) from blue, green and red in 0..255 and divide by nothing: the same in red, green, blue
# of 0..1. Shorter side 256, centre crop 224 (their README); their interpolation is not stated.
PREPROCESSING = Preprocessing(
    size=224, resize=256, interpolation="bilinear", mean=(123 / 255, 117 / 255, 104 / 255), std=(1 / 255,) * 3
)

# Caffe's layer -> our convolution and the norm after it, or our layer with a bias and no norm
_Names = dict[str, tuple[str, str | None]]

_STEMS: dict[str, _Names] = {
    "imagenet": {"conv1/7x7_s2": ("conv1", "bn1")},
    "deep": {
        "conv1_1/3x3_s2": ("conv1.0", "conv1.1"),
        "conv1_2/3x3": ("conv1.3", "conv1.4"),
        "conv1_3/3x3": ("conv1.6", "bn1"),
    },
}
_UNIT: _Names = {
    "1x1_reduce": ("conv1", "bn1"),
    "3x3": ("conv2", "bn2"),
    "1x1_increase": ("conv3", "bn3"),
    "1x1_down": ("se.fc1", None),
    "1x1_up": ("se.fc2", None),
}
_FIRST_UNIT: _Names = {**_UNIT, "1x1_proj": ("downsample.0", "downsample.1")}


def from_caffe(layers: Mapping[str, list[Tensor]], name: str) -> dict[str, Tensor]:
    """The state_dict of one of our networks from the layers of the authors' file.

    Norms get Caffe's sums divided by its factor, the first convolution takes red, green, blue, and the classifier's
    rows are sorted by WordNet id, the order of timm, torchvision and folders of images. With :data:`PREPROCESSING` the
    network then computes what Caffe does.

    Args:
        layers: what :func:`senet.models.weights.caffe_proto.read_caffe` read.
        name: one of :data:`RELEASED`.

    Raises:
        InputError: another name, or layers of another network: says which are missing, unknown or of another shape.
    """
    if name not in RELEASED:
        raise InputError(f"the authors released no {name!r}{did_you_mean(name, RELEASED)}")
    with torch.device("meta"):
        net = build(name)
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    names = _names(net)
    keys = _keys(names)
    _check(layers, keys, shapes, name)
    state = {
        key: blob.reshape(shapes.get(key, ()))
        for layer, wanted in keys.items()
        for key, blob in zip(wanted, layers[layer], strict=True)
    }
    for _, norm in names.values():
        if norm is not None:
            factor = state.pop(f"{norm}.factor")
            scale = torch.where(factor == 0, 0, 1 / factor)  # Caffe's rule for a norm that saw no batch
            state[f"{norm}.running_mean"] = state[f"{norm}.running_mean"] * scale
            state[f"{norm}.running_var"] = state[f"{norm}.running_var"] * scale
            state[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    first, *_, classifier = (ours for ours, _ in names.values())
    state[f"{first}.weight"] = state[f"{first}.weight"].flip(1)
    synsets = ilsvrc2012_synsets()
    rows = sorted(range(len(synsets)), key=synsets.__getitem__)
    for key in (f"{classifier}.weight", f"{classifier}.bias"):
        state[key] = state[key][rows]
    return state


@cache
def ilsvrc2012_synsets() -> tuple[str, ...]:
    """The WordNet ids of the 1000 ImageNet classes in the order of ILSVRC2012_ID, which is that of Caffe's outputs."""
    lines = Path(__file__).with_name("ilsvrc2012.txt").read_text().splitlines()
    return tuple(synset for line in lines if not line.startswith("#") for synset in line.split())


def _names(net: nn.Module) -> _Names:
    """All layers of a network, from the first to the classifier."""
    layers = _bn_inception(net) if isinstance(net, BNInception) else _residual(net)
    return {**layers, "classifier": ("fc", None)}


def _residual(net: nn.Module) -> _Names:
    assert isinstance(net.config, ResNetConfig)
    names = dict(_STEMS[net.config.stem])
    for stage, depth in enumerate(net.config.depths, 2):
        for unit in range(depth):
            ours = f"layer{stage - 1}.{unit}"
            for layer, (main, norm) in (_UNIT if unit else _FIRST_UNIT).items():
                names[f"conv{stage}_{unit + 1}_{layer}"] = f"{ours}.{main}", norm and f"{ours}.{norm}"
    return names


def _bn_inception(net: nn.Module) -> _Names:
    names: _Names = {}
    for place, module in net.named_modules():
        if isinstance(module, ConvNormAct):
            names[place.replace(".", "/")] = f"{place}.conv", f"{place}.bn"
        elif isinstance(module, Mixed):
            names[f"{place}_1x1_down"] = f"{place}.se.fc1", None
            names[f"{place}_1x1_up"] = f"{place}.se.fc2", None
    return names


def _keys(names: _Names) -> dict[str, tuple[str, ...]]:
    """For each of Caffe's layers our keys of its blobs, in Caffe's order; ``factor`` is what norms are divided by."""
    keys: dict[str, tuple[str, ...]] = {}
    for layer, (ours, norm) in names.items():
        if norm is None:
            keys[layer] = f"{ours}.weight", f"{ours}.bias"
        else:
            keys[layer] = (f"{ours}.weight",)
            keys[f"{layer}/bn"] = f"{norm}.running_mean", f"{norm}.running_var", f"{norm}.factor"
            keys[f"{layer}/bn/scale"] = f"{norm}.weight", f"{norm}.bias"
    return keys


def _check(
    layers: Mapping[str, list[Tensor]],
    keys: Mapping[str, tuple[str, ...]],
    shapes: Mapping[str, torch.Size],
    name: str,
) -> None:
    """Refuses layers that are not those of the network, each with its blobs; axes of size 1 do not count."""
    misfits = []
    for layer in keys.keys() & layers.keys():
        given = [[n for n in blob.shape if n != 1] for blob in layers[layer]]
        wanted = [[n for n in shapes.get(key, ()) if n != 1] for key in keys[layer]]
        if given != wanted:
            misfits.append(f"{layer} {[list(blob.shape) for blob in layers[layer]]}")
    problems = {
        "missing": keys.keys() - layers.keys(),
        "unknown": layers.keys() - keys.keys(),
        "of another shape": misfits,
    }
    if any(problems.values()):
        said = "; ".join(f"{len(found)} {kind} ({_some(found)})" for kind, found in problems.items() if found)
        raise InputError(f"the layers belong to another network than {name!r}: {said}")


def _some(names: Collection[str], most: int = 5) -> str:
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(sorted(names)[:most]) + more
