"""A network by what a user calls it: ours, timm's, torchvision's, or what a function of the user's gives."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from senet.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

__all__ = ["find_network"]

_SIZE = 224


def find_network(name: str) -> tuple[nn.Module, int]:
    """A network with fresh weights, and the side of the images that it is made for (224 where it does not say).

    Args:
        name: ``timm:NAME``, ``torchvision:NAME``, ``detector:NAME`` (of :func:`senet.create_detector`'s the backbone
            with its pyramid, in which all gates are), ``MODULE:FUNCTION`` (called without arguments, gives a module;
            found from the current folder too), or a bare name: ours, else timm's, else torchvision's, where installed.

    Raises:
        InputError: nothing is found, a package that is named is not installed, or the function gives no module.
    """
    place, colon, rest = name.partition(":")
    if not colon:
        return _bare(name)
    if place == "detector":
        from senet.models import create_detector

        return create_detector(rest, num_classes=80).backbone, 800
    if place in _PACKAGES:
        if importlib.util.find_spec(place) is None:
            raise InputError(f"{name} is {place}'s, which is not installed; pip install {place}")
        known, build = _PACKAGES[place]
        if not known(rest):
            raise InputError(f"{place} has no model {rest!r}{did_you_mean(rest, _names(place))}")
        return build(rest)
    return _called(place, rest), _SIZE


def _bare(name: str) -> tuple[nn.Module, int]:
    from senet.models import create_model, list_models, model_entry

    names = list_models()
    if name in names:
        return create_model(name), model_entry(name).size
    for place, (known, build) in _PACKAGES.items():
        if importlib.util.find_spec(place) is not None:
            if known(name):
                return build(name)
            names += _names(place)
    raise InputError(f"no model is called {name!r}{did_you_mean(name, names)}; MODULE:FUNCTION gives one of your own")


def _called(module: str, function: str) -> nn.Module:
    from torch import nn

    sys.path.insert(0, "")
    try:
        build = getattr(importlib.import_module(module), function, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise InputError(
            f"there is no module {error.name!r}; give MODULE:FUNCTION, a package's name or a model's"
        ) from error
    finally:
        sys.path.remove("")
    if not callable(build):
        raise InputError(f"{module} has no function {function!r}; give MODULE:FUNCTION")
    network = build()
    if not isinstance(network, nn.Module):
        raise InputError(f"{module}:{function} gives {type(network).__name__}; accepted: a torch.nn.Module")
    return network


def _in_timm(name: str) -> bool:
    import timm

    return timm.is_model(name)


def _from_timm(name: str) -> tuple[nn.Module, int]:
    import timm

    network: Any = timm.create_model(name)
    return network, network.pretrained_cfg.get("input_size", (3, _SIZE, _SIZE))[-1]


def _in_torchvision(name: str) -> bool:
    return name in _names("torchvision")


def _from_torchvision(name: str) -> tuple[nn.Module, int]:
    from torchvision.models import get_model

    return get_model(name, weights=None), _SIZE


def _names(place: str) -> list[str]:
    if place == "timm":
        import timm

        return timm.list_models()
    import torchvision

    return torchvision.models.list_models(torchvision.models)


_PACKAGES: dict[str, tuple[Callable[[str], bool], Callable[[str], tuple[Any, int]]]] = {
    "timm": (_in_timm, _from_timm),
    "torchvision": (_in_torchvision, _from_torchvision),
}
