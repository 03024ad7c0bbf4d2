"""Blocks that recalibrate a map, made of stages: squeeze, excite, scale."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import nn

from senet.blocks.bam import BAM as BAM
from senet.blocks.cbam import CBAM as CBAM
from senet.blocks.coordinate import CoordinateAttention as CoordinateAttention
from senet.blocks.eca import ECA as ECA
from senet.blocks.fca import FcaSE as FcaSE
from senet.blocks.gather_excite import GatherExcite as GatherExcite
from senet.blocks.gct import GCT as GCT
from senet.blocks.global_context import GlobalContext as GlobalContext
from senet.blocks.gsop import GSoP as GSoP
from senet.blocks.identity import start_as_identity as start_as_identity
from senet.blocks.scse import SCSE as SCSE
from senet.blocks.se import EffectiveSE as EffectiveSE
from senet.blocks.se import SqueezeExcite as SqueezeExcite
from senet.blocks.selective_kernel import SelectiveKernel as SelectiveKernel
from senet.blocks.simam import SimAM as SimAM
from senet.blocks.srm import SRM as SRM
from senet.blocks.stages import Recalibrate as Recalibrate
from senet.errors import InputError, did_you_mean
from senet.options import checked

__all__ = [
    "BAM",
    "BLOCKS",
    "CBAM",
    "ECA",
    "GCT",
    "SCSE",
    "SRM",
    "CoordinateAttention",
    "EffectiveSE",
    "FcaSE",
    "GSoP",
    "GatherExcite",
    "GlobalContext",
    "Recalibrate",
    "SelectiveKernel",
    "SimAM",
    "SqueezeExcite",
    "create_block",
    "start_as_identity",
]

BLOCKS: Mapping[str, type[nn.Module]] = MappingProxyType(
    {
        "se": SqueezeExcite,
        "ese": EffectiveSE,
        "eca": ECA,
        "cbam": CBAM,
        "scse": SCSE,
        "ge": GatherExcite,
        "srm": SRM,
        "gct": GCT,
        "simam": SimAM,
        "coord": CoordinateAttention,
        "gc": GlobalContext,
        "fca": FcaSE,
        "gsop": GSoP,
        "sk": SelectiveKernel,
        "bam": BAM,
    }
)


def create_block(name: str, channels: int, options: Mapping[str, Any] | None = None) -> nn.Module:
    """A block by its name.

    Args:
        name: one of :data:`BLOCKS`.
        channels: channels C of the map.
        options: the block's keyword arguments.

    Returns:
        A module (N, C, H, W) -> (N, C, H, W). A block that knows no neighbours of a position takes (N, C, L) and
        (N, C, D, H, W) too, with the same weights; the others raise an ``InputError`` at such a map.

    Raises:
        InputError: an unknown name, an unknown option, or a value of the wrong type.
    """
    if not isinstance(name, str):
        raise InputError(f"block is {name!r}; accepted: a name, {', '.join(map(repr, BLOCKS))}")
    if options is not None and not isinstance(options, Mapping):
        raise InputError(f"block {name!r}: options is {options!r}; accepted: names and values, {{'reduction': 8}} say")
    if name not in BLOCKS:
        raise InputError(f"no block is called {name!r}{did_you_mean(name, BLOCKS)}")
    if channels < 1:
        raise InputError(f"block {name!r}: channels is {channels}; accepted: 1 or more")
    options = dict(options or {})
    if "channels" in options:
        raise InputError(f"block {name!r}: channels follow from where the block sits; leave them out of its options")
    return BLOCKS[name](channels, **checked(BLOCKS[name], options, what=f"block {name!r}"))
