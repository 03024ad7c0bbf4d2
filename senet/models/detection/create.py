"""A detector by the name of its backbone."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from senet.errors import InputError
from senet.models.create import create_model
from senet.models.detection.config import DetectorConfig
from senet.models.features import Features
from senet.models.net import FeatureInfo
from senet.models.registry import build as build_network
from senet.options import build

if TYPE_CHECKING:
    from senet.models.detection.network import Detector

__all__ = ["assemble", "build_body", "create_detector", "resolved"]

_STRIDES = (4, 8, 16, 32)  # of the pyramid's levels (arXiv 1612.03144)


def create_detector(
    name: str, *, num_classes: int, pretrained_backbone: bool | str | Path = False, **options: Any
) -> Detector:
    """Faster R-CNN with a feature pyramid over one of our networks, or with ``masks=True`` Mask R-CNN.

    Args:
        name: of the backbone, from :func:`senet.list_models`: any whose maps are at strides of 4, 8, 16 and 32.
        num_classes: without the background: labels are 1 to ``num_classes``.
        pretrained_backbone: weights of the backbone, as ``pretrained`` of :func:`senet.create_model`. With them, and
            unless told otherwise, the stem and the first stage do not learn, all norms are fixed, and images are
            normalised as the weights want them; without, nothing is frozen, as fresh norms would be dead for good.
        **options: any field of :class:`senet.models.detection.config.DetectorConfig`, for example ``min_size=320``; or
            of the backbone's options, for example ``attn="eca"``.

    Returns:
        A :class:`senet.models.detection.network.Detector`; its ``config`` holds its options, nothing left open.

    Raises:
        InputError: an unknown name or option, a value that is not accepted, a network without maps at these strides,
            weights that cannot be had, something frozen without weights, or torchvision is not installed.

    Example:
        >>> detector = create_detector("seresnet50", num_classes=3, min_size=320)
    """
    if importlib.util.find_spec("torchvision") is None:
        raise InputError("detectors need torchvision; install it by pip install 'senet[detection]'")
    if not isinstance(num_classes, int) or isinstance(num_classes, bool) or num_classes < 1:
        raise InputError(f"num_classes is {num_classes!r}; accepted: 1 or more, the background not counted")
    own = {f.name for f in fields(DetectorConfig)}
    given = {key: value for key, value in options.items() if key in own}
    rest = {key: value for key, value in options.items() if key not in own}
    config = resolved(build(DetectorConfig, given, what="detector"), fresh=pretrained_backbone is False)
    body = build_body(name, rest, pretrained=pretrained_backbone)
    if body.loaded is not None and body.loaded.preprocessing is not None and not {"mean", "std"} & given.keys():
        how = body.loaded.preprocessing
        config = replace(config, mean=how.mean, std=how.std)
    return assemble(body, name.partition(".")[0], rest, num_classes=num_classes, config=config)


def resolved(config: DetectorConfig, *, fresh: bool) -> DetectorConfig:
    """The options with nothing left open.

    Args:
        config: the options.
        fresh: whether the backbone begins with fresh weights.

    Raises:
        InputError: something would be frozen that has learnt nothing, or sizes exclude each other.
    """
    if config.max_size < config.min_size:  # not asked of the options alone, which are changed one after the other
        raise InputError(
            f"detector max_size is {config.max_size}, smaller than min_size={config.min_size}; give at least that"
        )
    if fresh and (config.frozen or config.norm == "frozen"):
        raise InputError(
            f"detector frozen is {config.frozen} and norm {config.norm!r}, but the backbone has fresh weights, which "
            "must learn; give it pretrained weights (a recipe by --set weights=FILE), or frozen=0 and another norm"
        )
    return replace(
        config,
        frozen=(0 if fresh else 2) if config.frozen is None else config.frozen,
        norm=("batch" if fresh else "frozen") if config.norm is None else config.norm,
        anchor_scale=config.anchor_strides,
    )


def build_body(name: str, options: Mapping[str, Any], *, pretrained: bool | str | Path = False) -> Features:
    """The backbone of a detector, its maps at the strides of the pyramid.

    Raises:
        InputError: as :func:`create_detector`.
    """
    if (channels := options.get("in_chans", 3)) != 3:
        raise InputError(f"in_chans is {channels!r}; accepted for a detector: 3, as its images are normalised by three")
    strides = [level["reduction"] for level in _levels_of(name.partition(".")[0], options)]
    if missing := [stride for stride in _STRIDES if stride not in strides]:
        raise InputError(f"{name} has no maps at a stride of {missing[0]}, which the pyramid needs; it has {strides}")
    levels = tuple(max(i for i, own in enumerate(strides) if own == stride) for stride in _STRIDES)
    body = create_model(
        name, pretrained=pretrained, num_classes=0, features_only=True, out_indices=levels, **dict(options)
    )
    assert isinstance(body, Features)
    return body


def assemble(
    body: Features, name: str, options: Mapping[str, Any], *, num_classes: int, config: DetectorConfig
) -> Detector:
    """A detector over a backbone, frozen as the options say, whatever its weights.

    Args:
        body: the backbone.
        name: of its network.
        options: of its network.
        num_classes: without the background.
        config: with nothing left open, see :func:`resolved`.
    """
    from senet.models.detection import freezing, network

    assert config.frozen is not None
    assert config.norm is not None
    freezing.freeze_stages(body, [level["module"] for level in _levels_of(name, options)], config.frozen)
    return network.Detector(freezing.set_norms(body, config.norm), num_classes, config)


def _levels_of(name: str, options: Mapping[str, Any]) -> list[FeatureInfo]:
    """The maps of a network, without making its weights."""
    with torch.device("meta"):
        return build_network(name, options).feature_info
