"""Blocks that recalibrate a map, made of stages: squeeze, excite, scale."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from senet.blocks.cbam import CBAM as CBAM
from senet.blocks.eca import ECA as ECA
from senet.blocks.gather_excite import GatherExcite as GatherExcite
from senet.blocks.scse import SCSE as SCSE
from senet.blocks.se import EffectiveSE as EffectiveSE
from senet.blocks.se import SqueezeExcite as SqueezeExcite
from senet.blocks.stages import Recalibrate as Recalibrate
from senet.errors import InputError, did_you_mean
from senet.options import checked

__all__ = [
    "BLOCKS",
    "CBAM",
    "ECA",
    "SCSE",
    "EffectiveSE",
    "GatherExcite",
    "Recalibrate",
    "SqueezeExcite",
    "create_block",
]

BLOCKS: Mapping[str, type[nn.Module]] = MappingProxyType(
    {"se": SqueezeExcite, "ese": EffectiveSE, "eca": ECA, "cbam": CBAM, "scse": SCSE, "ge": GatherExcite}
)


def create_block(name: str, channels: int, options: Mapping[str, Any] | None = None) -> nn.Module:
    """A block by its name.

    Args:
        name: ``"se"``, ``"ese"``, ``"eca"``, ``"cbam"``, ``"scse"`` or ``"ge"``.
        channels: channels C of the map.
        options: the block's keyword arguments.

    Returns:
        A module (N, C, H, W) -> (N, C, H, W).

    Raises:
        InputError: an unknown name, an unknown option, or a value of the wrong type.
    """
    if name not in BLOCKS:
        raise InputError(f"no block is called {name!r}{did_you_mean(name, BLOCKS)}")
    if channels < 1:
        raise InputError(f"block {name!r}: channels is {channels}; accepted: 1 or more")
    options = dict(options or {})
    if "channels" in options:
        raise InputError(f"block {name!r}: channels follow from where the block sits; leave them out of its options")
    return BLOCKS[name](channels, **checked(BLOCKS[name], options, what=f"block {name!r}"))
