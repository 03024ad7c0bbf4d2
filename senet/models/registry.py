"""Networks by name."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from senet.errors import InputError, did_you_mean
from senet.models import (
    bn_inception,
    inception_resnet_v2,
    inception_v3,
    mobile_table,
    regnet_table,
    resnet_table,
    shake,
    shufflenet,
    vgg,
)
from senet.models.config import NetConfig
from senet.models.features import Features
from senet.models.net import Entry
from senet.options import checked

__all__ = ["MODELS", "create_model", "list_models", "model_config", "model_entry"]

MODELS: Mapping[str, Entry] = MappingProxyType(
    {
        **bn_inception.TABLE,
        **inception_resnet_v2.TABLE,
        **inception_v3.TABLE,
        **mobile_table.TABLE,
        **regnet_table.TABLE,
        **resnet_table.TABLE,
        **shake.TABLE,
        **shufflenet.TABLE,
        **vgg.TABLE,
    }
)


def list_models(pattern: str = "*") -> list[str]:
    """The names of all networks that match a shell pattern, sorted: ``list_models("se*50*")``."""
    return sorted(fnmatch.filter(MODELS, pattern))


def model_entry(name: str) -> Entry:
    """What the registry knows of a network: class, options, source and the size of images it is made for.

    Raises:
        InputError: an unknown name; the nearest are named.
    """
    if name not in MODELS:
        raise InputError(f"no model is called {name!r}{did_you_mean(name, MODELS)}")
    return MODELS[name]


def model_config(name: str, options: Mapping[str, Any] | None = None) -> NetConfig:
    """The complete options of a network.

    Args:
        name: a name from :func:`list_models`.
        options: fields to change. Another ``attn`` than the network's own starts from that block's defaults.

    Raises:
        InputError: an unknown name or option (the nearest are named), or a value that is not accepted.
    """
    config = model_entry(name).config
    changes = checked(type(config), dict(options or {}), what=f"model {name!r}")
    own = config.attn_options if changes.get("attn", config.attn) == config.attn else {}
    changes["attn_options"] = {**own, **changes.get("attn_options", {})}
    return dataclasses.replace(config, **changes)


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_chans: int = 3,
    features_only: bool = False,
    out_indices: tuple[int, ...] | None = None,
    **options: Any,
) -> nn.Module:
    """A network by its name, with fresh weights.

    Args:
        name: a name from :func:`list_models`, for example ``"seresnet50"``.
        num_classes: outputs of the classifier; None: as in the paper (1000, or 10 for CIFAR networks); 0: pooled
            features.
        in_chans: channels of the input image.
        features_only: return the maps of the stages instead of class scores, see :class:`Features`.
        out_indices: which maps, with ``features_only``.
        **options: any other field of the network's options, checked by name and type: ``attn="eca"``,
            ``attn_options={"reduction": 4}``, ``placement="pre"``, ``stages=(2, 3)``; see :class:`NetConfig` and the
            options of the network's family, for example :class:`ResNetConfig`.

    Returns:
        A module (N, in_chans, H, W) -> (N, num_classes). Its ``config`` holds all options.

    Raises:
        InputError: an unknown name or option (the nearest are named), or a value that is not accepted.

    Example:
        >>> model = create_model("seresnet50", num_classes=10, placement="pre")
    """
    if out_indices is not None and not features_only:
        raise InputError("out_indices chooses the maps of a backbone; give features_only=True with it")
    shared: dict[str, Any] = {"in_chans": in_chans}
    if num_classes is not None:
        shared["num_classes"] = num_classes
    net = model_entry(name).net(model_config(name, {**shared, **options}))
    return Features(net, out_indices) if features_only else net
