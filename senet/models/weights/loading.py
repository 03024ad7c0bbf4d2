"""A file of weights into a network, whoever wrote the file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from senet.errors import InputError, with_article
from senet.models.config import NetConfig
from senet.models.net import Net
from senet.models.registry import build as build_network
from senet.models.registry import model_config
from senet.models.weights.files import load_into
from senet.models.weights.layouts import detect, to_ours, training_only
from senet.models.weights.layouts.reading import Weights, read_weights
from senet.models.weights.layouts.translate import classifier_keys, first_convolution
from senet.models.weights.layouts.unwrapping import part_hint
from senet.models.weights.preprocessing import Preprocessing
from senet.models.weights.pruned import as_pruned
from senet.options import build

__all__ = ["Loaded", "about", "layout_of", "load_read", "load_weights", "origin_of", "sizes_of"]

# What may differ between the network that a file of ours is of and the one it is for; the rest decides what its
# tensors mean. Their shapes show sizes and stages.
_FREE = {"num_classes", "in_chans", "drop_rate", "drop_path_rate", "stages", "output_stride"}
_FREE |= {"zero_init_residual", "norm_momentum"}
_SIZES = {"reduction", "hidden_channels", "rounding", "bias"}  # of attn_options


@dataclass(frozen=True)
class Loaded:
    """Result of :func:`load_weights`.

    Attributes:
        layout: whose names the file has.
        missing: tensors of the network, its classifier's, that the file has none for; they keep their fresh values.
        dropped: tensors of the file that have no place: another classifier's, those of modules for training only.
        adapted: the first convolution, where its channels were made the network's.
        taken: what was unwrapped to get at the tensors.
        unread: classes of objects that lay beside the tensors and were not made, such as ``"argparse.Namespace"``.
        classes: of the file's classifier; 0 where it has none.
        preprocessing: how images are brought to the weights; None where nobody says so.
    """

    layout: str
    missing: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    classes: int = 0
    preprocessing: Preprocessing | None = None


def load_weights(net: Net, path: Path, *, layout: str | None = None, entry: str | None = None) -> Loaded:
    """Loads a file of weights, whoever wrote it, into a network of ours.

    Blocks that a file of ours comes without, as they were pruned away, are taken out of the network. Strict, but for
    two things, as in timm: a first convolution for three channels is summed over them for a network that takes one,
    and repeated and scaled by 3 / n for one that takes n; a classifier of other classes is dropped.
    The result says so.

    Args:
        net: changed in place; unchanged if an error is raised.
        path: safetensors, what ``torch.save`` wrote, or ONNX; see
            :func:`senet.models.weights.layouts.reading.read_weights`.
        layout: whose names the file has, one of :data:`senet.models.weights.layouts.LAYOUTS`; None: the names tell.
        entry: of a checkpoint that holds several things.

    Raises:
        InputError: the file cannot be read or is of another network: says what is missing, unknown, of another shape.
    """
    return load_read(net, read_weights(path, entry=entry), path, layout=layout)


def load_read(net: Net, weights: Weights, path: Path, *, layout: str | None = None) -> Loaded:
    """Loads weights that were read, see :func:`load_weights`; ``path`` is how errors call them."""
    with about(path):
        layout = layout or layout_of(weights, net)
    with as_pruned(net, weights.info, weights.tensors, what=str(path)):
        with about(path):
            dropped = training_only(weights.tensors, layout, net)
            state, own = to_ours(weights.tensors, layout, net, strict=False), net.state_dict()
            head, first = classifier_keys(net), first_convolution(net)
            classes = len(state[head[0]]) if head[0] in state else 0
            if any(key in state and (key not in own or state[key].shape != own[key].shape) for key in head):
                dropped += tuple(key for key in head if state.pop(key, None) is not None)
            said = weights.info.get("preprocessing")
            how = None if said is None else build(Preprocessing, said, what="its preprocessing")
            adapted = state[first].shape[1] != own[first].shape[1]
            if adapted:
                state[first] = _for_channels(state[first], own[first].shape[1])
        missing = tuple(key for key in own if key not in state)
        load_into(net, {**{key: own[key] for key in missing}, **state}, what=str(path))
    return Loaded(
        layout=weights.writer or layout,
        missing=missing,
        dropped=dropped,
        adapted=(first,) if adapted else (),
        taken=weights.taken,
        unread=weights.unread,
        classes=classes,
        preprocessing=how,
    )


def sizes_of(weights: Weights, path: Path, name: str, options: Mapping[str, Any]) -> dict[str, int]:
    """The sizes that weights of a network have of their own, as options: ``in_chans``, and ``num_classes`` if any.

    Args:
        weights: that were read.
        path: how errors call them.
        name: of the network.
        options: of the network, as in :func:`senet.models.registry.build`.

    Raises:
        InputError: as :func:`load_weights`.
    """
    with torch.device("meta"):
        net = build_network(name, options)
    with as_pruned(net, weights.info, weights.tensors, what=str(path)), about(path):
        state = to_ours(weights.tensors, layout_of(weights, net), net, strict=False)
    sizes, classifier = {"in_chans": state[first_convolution(net)].shape[1]}, classifier_keys(net)[0]
    return sizes | ({"num_classes": len(state[classifier])} if classifier in state else {})


def layout_of(weights: Weights, net: Net) -> str:
    """Returns the layout whose names the tensors have; ours, if the file is ours and of this network.

    Raises:
        InputError: the file says that it is of another network, even if its tensors would fit; or no names are known.
    """
    origin = origin_of(weights.info)
    if origin is None:
        try:
            return detect(weights.tensors, net)
        except InputError as error:
            raise InputError(f"{error}{part_hint(weights.tensors)}") from None
    name, options = origin
    theirs, ours = model_config(name, options), net.config
    if type(theirs) is not type(ours):
        raise InputError(f"the weights are of {name!r}, {with_article(type(theirs).__name__.removesuffix('Config'))}")
    before, now = _meaning(theirs), _meaning(ours)
    if other := [f"{key}={before[key]} instead of {now[key]}" for key in now if before[key] != now[key]]:
        raise InputError(f"the weights are of {name!r}, another network: {', '.join(other)}")
    return "senet"


def origin_of(info: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """The network that a file of ours says it is of, by name and options: of a conversion or of a run.

    Raises:
        InputError: it says so in no readable way.
    """
    recipe = info.get("recipe")
    model = recipe.get("model") if isinstance(recipe, Mapping) else None
    said = model if isinstance(model, Mapping) else {"name": info.get("model"), "options": info.get("options", {})}
    name, options = said.get("name"), said.get("options", {})
    if name is None:
        return None
    if not isinstance(name, str) or not isinstance(options, Mapping):
        raise InputError(f"the file says in no readable way which network it belongs to: {name!r}, {options!r}")
    return name, options


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Has errors begin with the file that they are about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _meaning(config: NetConfig) -> dict[str, Any]:
    """The options that decide what tensors mean."""
    meaning = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in _FREE}
    return {**meaning, "attn_options": {k: v for k, v in config.attn_options.items() if k not in _SIZES}}


def _for_channels(weight: Tensor, channels: int) -> Tensor:
    """The first convolution for other images, by timm's rule: (O, 3, k, l) -> (O, channels, k, l)."""
    given = weight.shape[1]
    if given != 3:
        raise InputError(
            f"the first convolution takes {given} channels, not {channels}; give in_chans={given} (only weights for 3 "
            "are adapted)"
        )
    if channels == 1:
        return weight.float().sum(1, keepdim=True).to(weight.dtype)
    repeated = weight.float().repeat(1, math.ceil(channels / 3), 1, 1)[:, :channels]
    return (repeated * (3 / channels)).to(weight.dtype)
