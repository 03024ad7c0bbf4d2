"""Networks by name."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping
from typing import Any

from torch import nn

from senet.errors import InputError, did_you_mean
from senet.models.features import Features
from senet.models.resnet import ResNet, ResNetConfig
from senet.models.tables import TABLE
from senet.options import checked

__all__ = ["create_model", "list_models", "model_config"]


def list_models(pattern: str = "*") -> list[str]:
    """The names of all networks that match a shell pattern, sorted: ``list_models("se*50*")``."""
    return sorted(fnmatch.filter(TABLE, pattern))


def model_config(name: str, options: Mapping[str, Any] | None = None) -> ResNetConfig:
    """The complete options of a network.

    Args:
        name: a name from :func:`list_models`.
        options: fields to change. Another ``attn`` than the network's own starts from that block's defaults.

    Raises:
        InputError: an unknown name or option (the nearest are named), or a value that is not accepted.
    """
    if name not in TABLE:
        raise InputError(f"no model is called {name!r}{did_you_mean(name, TABLE)}")
    config = TABLE[name]
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
            ``attn_options={"reduction": 4}``, ``placement="pre"``, ``stages=(2, 3)``; see :class:`ResNetConfig`.

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
    net = ResNet(model_config(name, {**shared, **options}))
    return Features(net, out_indices) if features_only else net
