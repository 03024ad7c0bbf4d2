"""Networks by name."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

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
    textline,
    vgg,
)
from senet.models.config import NetConfig
from senet.models.net import Entry, Net
from senet.options import checked

__all__ = ["MODELS", "build", "list_models", "model_config", "model_entry"]

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
        **textline.TABLE,
        **vgg.TABLE,
    }
)


def list_models(pattern: str = "*") -> list[str]:
    """The names of all networks that match a shell pattern, sorted: ``list_models("se*50*")``."""
    return sorted(fnmatch.filter(MODELS, pattern))


def model_entry(name: str) -> Entry:
    """Returns the registry's entry of a network: class, options, source and the size of images it is made for.

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
    own = dict(config.attn_options) if changes.get("attn", config.attn) == config.attn else {}
    given = changes.get("attn_options", {})
    if given.get("hidden_channels") is not None:  # which says all; the network's own ratio and its rounding do not hold
        own = {name: value for name, value in own.items() if name not in ("reduction", "rounding")}
    changes["attn_options"] = {**own, **given}
    return dataclasses.replace(config, **changes)


def build(name: str, options: Mapping[str, Any] | None = None) -> Net:
    """A network with fresh weights.

    Args:
        name: a name from :func:`list_models`.
        options: fields to change.

    Raises:
        InputError: as :func:`model_config`.
    """
    return model_entry(name).net(model_config(name, options))
