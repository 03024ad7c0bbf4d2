"""A network by its name, with fresh weights or with some that there are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from senet.errors import InputError
from senet.models.features import Features
from senet.models.registry import build
from senet.models.weights.layouts.reading import is_file_name, read_weights
from senet.models.weights.loading import load_read, load_weights, sizes_of
from senet.models.weights.pretrained import fetch, find_weight

__all__ = ["create_model"]


def create_model(
    name: str,
    *,
    pretrained: bool | str | Path = False,
    entry: str | None = None,
    num_classes: int | None = None,
    in_chans: int | None = None,
    features_only: bool = False,
    out_indices: tuple[int, ...] | None = None,
    **options: Any,
) -> nn.Module:
    """A network by its name.

    Args:
        name: a name from :func:`list_models`, for example ``"seresnet50"``; with ``pretrained=True`` also with a tag,
            ``"seresnet50.a1_in1k"``.
        pretrained: False: fresh weights. True: the default ones, which lie in the package or on the hub, see
            :func:`list_pretrained`. Text: those of this tag, for example ``"a1_in1k"``. A path: those of a file,
            whoever wrote it; text with a separator or a suffix is one too.
        entry: of a file with several networks in it, which one to take, for example ``"state_dict_ema"``.
        num_classes: outputs of the classifier; None: as the weights have or, for fresh ones, as the network's paper
            has; 0: pooled features. Another number than the weights' gives a fresh classifier.
        in_chans: channels of the input image; None: as the weights have, 3 for fresh ones. The first convolution of
            weights for 3 is adapted to others.
        features_only: return the maps of the stages instead of class scores, see :class:`Features`.
        out_indices: which maps, with ``features_only``.
        **options: any other field of the network's options, checked by name and type: ``attn="eca"``,
            ``attn_options={"reduction": 4}``, ``placement="pre"``, ``stages=(2, 3)``; see :class:`NetConfig` and the
            options of the network's family, for example :class:`ResNetConfig`.

    Returns:
        A module (N, in_chans, H, W) -> (N, num_classes). Its ``config`` holds all options; its ``loaded``, a
        :class:`senet.models.weights.loading.Loaded`, says what was done to the weights and how images are brought to
        them, and is None for fresh ones.

    Raises:
        InputError: an unknown name or option (the nearest are named), a value that is not accepted, or weights that
            cannot be had, or are another network's.

    Example:
        >>> model = create_model("seresnet50", num_classes=10, placement="pre")
    """
    if out_indices is not None and not features_only:
        raise InputError("out_indices chooses the maps of a backbone; give features_only=True with it")
    name, _, tag = name.partition(".")
    if tag and pretrained is not True:
        raise InputError(f"{name!r} with the tag {tag!r} names weights; give pretrained=True with it, or leave it out")
    given = {"num_classes": num_classes, "in_chans": in_chans}
    fields: dict[str, Any] = {**options, **{key: value for key, value in given.items() if value is not None}}
    file = _file(pretrained)
    if entry is not None and file is None:
        raise InputError(
            f"entry is {entry!r}, which is of a file, and pretrained is {pretrained!r}, which names none; give "
            "pretrained= the path of the file, or leave entry= out"
        )
    if file is not None:
        weights = read_weights(file, entry=entry)
        net = build(name, {**sizes_of(weights, file, name, fields), **fields})
        net.loaded = load_read(net, weights, file)
    elif pretrained:
        wanted = (tag or None) if pretrained is True else str(pretrained).removeprefix(f"{name}.")
        weight = find_weight(name, wanted)
        theirs = {"in_chans": weight.preprocessing.channels}
        if weight.num_classes:
            theirs["num_classes"] = weight.num_classes
        net = build(name, {**theirs, **fields})
        loaded = load_weights(net, fetch(weight), layout=weight.layout)
        net.loaded = replace(loaded, preprocessing=weight.preprocessing)
    else:
        net = build(name, fields)
    return Features(net, out_indices) if features_only else net


def _file(pretrained: bool | str | Path) -> Path | None:
    if isinstance(pretrained, str) and is_file_name(pretrained):
        return Path(pretrained)
    return pretrained if isinstance(pretrained, Path) else None
