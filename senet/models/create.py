"""A network by its name, with fresh weights or with some that there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from senet.errors import InputError
from senet.models.features import Features
from senet.models.registry import build
from senet.models.weights.loading import load_weights
from senet.models.weights.pretrained import fetch, find_weight

__all__ = ["create_model"]


def create_model(
    name: str,
    *,
    pretrained: bool | str | Path = False,
    num_classes: int | None = None,
    in_chans: int = 3,
    features_only: bool = False,
    out_indices: tuple[int, ...] | None = None,
    **options: Any,
) -> nn.Module:
    """A network by its name.

    Args:
        name: a name from :func:`list_models`, for example ``"seresnet50"``.
        pretrained: False: fresh weights. True: the hub's default ones. Text: the hub's of this tag, for example
            ``"a1_in1k"``. A path: those of a file, whoever wrote it; text with a separator or a suffix is one too.
        num_classes: outputs of the classifier; None: as the hub's weights have or else as in the paper (1000, or 10 or
            100 for CIFAR networks); 0: pooled features. Another number than the weights' gives a fresh classifier.
        in_chans: channels of the input image; the first convolution of weights for 3 is adapted.
        features_only: return the maps of the stages instead of class scores, see :class:`Features`.
        out_indices: which maps, with ``features_only``.
        **options: any other field of the network's options, checked by name and type: ``attn="eca"``,
            ``attn_options={"reduction": 4}``, ``placement="pre"``, ``stages=(2, 3)``; see :class:`NetConfig` and the
            options of the network's family, for example :class:`ResNetConfig`.

    Returns:
        A module (N, in_chans, H, W) -> (N, num_classes). Its ``config`` holds all options; its ``loaded`` says what
        was done to the weights that were loaded, and is None for fresh ones.

    Raises:
        InputError: an unknown name or option (the nearest are named), a value that is not accepted, or weights that
            cannot be had, or are another network's.

    Example:
        >>> model = create_model("seresnet50", num_classes=10, placement="pre")
    """
    if out_indices is not None and not features_only:
        raise InputError("out_indices chooses the maps of a backbone; give features_only=True with it")
    file = _file(pretrained)
    weight = None if pretrained is False or file else find_weight(name, None if pretrained is True else str(pretrained))
    if num_classes is None and weight is not None and weight.num_classes:
        num_classes = weight.num_classes
    net = build(
        name, {"in_chans": in_chans, **({} if num_classes is None else {"num_classes": num_classes}), **options}
    )
    if weight is not None:
        net.loaded = load_weights(net, fetch(weight), layout=weight.layout)
    elif file is not None:
        net.loaded = load_weights(net, file)
    return Features(net, out_indices) if features_only else net


def _file(pretrained: bool | str | Path) -> Path | None:
    if isinstance(pretrained, str) and (Path(pretrained).suffix or Path(pretrained).name != pretrained):
        return Path(pretrained)
    return pretrained if isinstance(pretrained, Path) else None
