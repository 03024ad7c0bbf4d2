"""Weights from one file into another, under other names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from senet.errors import InputError, did_you_mean
from senet.files import write_whole
from senet.models.net import Net
from senet.models.registry import build, list_models
from senet.models.weights.caffe import PREPROCESSING, from_caffe, ilsvrc2012_synsets
from senet.models.weights.caffe_proto import read_caffe
from senet.models.weights.files import write_tensors
from senet.models.weights.layouts import LAYOUTS, detect, from_ours, to_ours, training_only
from senet.models.weights.layouts.reading import Weights, read_weights
from senet.models.weights.layouts.translate import classifier_keys, first_convolution
from senet.models.weights.loading import about, layout_of, origin_of
from senet.models.weights.pretrained import find_weight
from senet.options import to_plain

__all__ = ["Converted", "convert"]


@dataclass(frozen=True)
class Converted:
    """Result of :func:`convert`.

    Attributes:
        model: the network.
        layout: whose names the source has.
        to: whose names the target has.
        tensors: how many were written.
        dropped: tensors of the source that have no place: those of modules for training only.
        taken: what was unwrapped to get at the tensors.
        unread: classes of objects that lay beside the tensors and were not made.
        doubt: what networks of the source's layout have that no tensor shows.
    """

    model: str
    layout: str
    to: str
    tensors: int
    dropped: tuple[str, ...]
    taken: tuple[str, ...]
    unread: tuple[str, ...]
    doubt: str


def convert(
    source: Path,
    target: Path,
    name: str | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    to: str = "senet",
    layout: str | None = None,
    entry: str | None = None,
    like: str | None = None,
) -> Converted:
    """Writes the weights of one file into another, under other names.

    Files written with ``to="senet"`` say which network they are of, ``model`` and ``options``; the names of its
    ``classes`` and its ``preprocessing``, where the source says them; and the ``source``. Other layouts are written as
    plain safetensors, which timm, torchvision and others load.

    Args:
        source: safetensors, what ``torch.save`` wrote, ONNX, or the authors' ``.caffemodel``.
        target: ends in ``.safetensors``; written whole or not at all.
        name: the network; None: what the file says, or the only one that its tensors fit.
        options: of the network, where they are not its own. Classes and channels follow from the file.
        to: the layout to write, a name from ``senet.models.weights.layouts.LAYOUTS``.
        layout: the layout of the source; None: told by the names themselves.
        entry: of a checkpoint that holds several things, as in
            :func:`senet.models.weights.layouts.reading.read_weights`.
        like: weights on the hub, ``"seresnet50.a1_in1k"``, whose preprocessing and classes these have too; for files
            that say neither.

    Raises:
        InputError: a file cannot be read or written, or does not fit the network; nothing is written.
    """
    if target.suffix != ".safetensors":
        raise InputError(f"{target} ends in {target.suffix!r}; accepted: '.safetensors'")
    if to not in LAYOUTS:
        raise InputError(f"no layout is called {to!r}{did_you_mean(to, LAYOUTS)}")
    weights = _from_caffe(source, name, entry) if source.suffix == ".caffemodel" else read_weights(source, entry=entry)
    with about(source):
        said_name, said_options = origin_of(weights.info) or (None, {})
        name = name or said_name or _only_candidate(weights.tensors, layout)
        options = {**(said_options if name == said_name else {}), **(options or {})}
        net = _skeleton(name, options)
        layout = layout or layout_of(weights, net)
        options = {**_sizes(to_ours(weights.tensors, layout, net, strict=False), net), **options}
        net = _skeleton(name, options)
        dropped = training_only(weights.tensors, layout, net)
        state = to_ours(weights.tensors, layout, net)
        # Cloned, as safetensors refuses tensors that are one in memory, which those of other files may be.
        result = {key: tensor.clone() for key, tensor in from_ours(state, to, net).items()}
    origin = weights.writer or layout
    if to == "senet":
        said = {"file": source.name, "layout": origin, "taken": list(weights.taken)}
        known = {"classes": None, "preprocessing": None, **weights.info, **_as(like, net)}
        write_tensors(target, result, {**known, "model": name, "options": to_plain(options), "source": said})
    else:
        _write_plain(target, result)
    return Converted(name, origin, to, len(result), dropped, weights.taken, weights.unread, LAYOUTS[layout].doubt)


def _from_caffe(source: Path, name: str | None, entry: str | None) -> Weights:
    if entry is not None:
        raise InputError(f"entry is {entry!r}, but {source} is a file of Caffe, which has no entries; leave it out")
    if name is None:
        raise InputError(f"{source} does not say which network it is of; name it, for example 'seresnet50_caffe'")
    layers = read_caffe(source)
    with about(source):
        tensors = from_caffe(layers, name)
    info = {"model": name, "classes": sorted(ilsvrc2012_synsets()), "preprocessing": to_plain(PREPROCESSING)}
    return Weights(tensors, info, writer="caffe")


def _as(like: str | None, net: Net) -> dict[str, Any]:
    """Preprocessing and classes of weights on the hub."""
    if like is None:
        return {}
    name, _, tag = like.partition(".")
    weight, synsets = find_weight(name, tag or None), sorted(ilsvrc2012_synsets())
    classes = {"classes": synsets} if net.config.num_classes == weight.num_classes == len(synsets) else {}
    return {"preprocessing": to_plain(weight.preprocessing), **classes}


def _skeleton(name: str, options: Mapping[str, Any]) -> Net:
    """The network without memory for its weights."""
    with torch.device("meta"):
        return build(name, options)


def _sizes(state: Mapping[str, Tensor], net: Net) -> dict[str, int]:
    """Reads the numbers of classes and of input channels from the tensors."""
    weight, _ = classifier_keys(net)
    classes = state[weight].shape[0] if weight in state else 0
    return {"num_classes": classes, "in_chans": state[first_convolution(net)].shape[1]}


def _only_candidate(tensors: Mapping[str, Tensor], layout: str | None) -> str:
    found = []
    for name in list_models():
        net = _skeleton(name, {})
        try:
            to_ours(tensors, layout or detect(tensors, net), net, strict=False)
        except InputError:
            continue
        found.append(name)
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError("the tensors fit no network with its own options; name the network, and the options it has")
    raise InputError(
        f"the tensors fit {', '.join(found)}, which differ in what no tensor shows, such as strides and pools; "
        "name the network (those of timm and torchvision are without _caffe)"
    )


def _write_plain(path: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save

    write_whole(path, save({key: value.contiguous() for key, value in tensors.items()}, {"format": "pt"}))
