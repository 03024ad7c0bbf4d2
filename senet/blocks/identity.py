"""Blocks that start as the identity, so that a trained network computes what it did when it gets them."""

from __future__ import annotations

from torch import nn

from senet.blocks.cbam import CBAM
from senet.blocks.global_context import GlobalContext
from senet.blocks.scse import SCSE
from senet.blocks.selective_kernel import SelectiveKernel
from senet.blocks.stages import Recalibrate
from senet.errors import InputError

__all__ = ["start_as_identity"]


def start_as_identity(block: nn.Module) -> None:
    """Makes a block give its map back unchanged, and able to learn from there.

    A block put into a trained network then changes nothing at first. What every block does is said in its own
    ``start_as_identity``; mostly, the gate's last layer becomes zero and its sigmoid is doubled.

    Args:
        block: any block of :data:`senet.blocks.BLOCKS`; changed in place.

    Raises:
        InputError: it is no block, or one that has no such start; the message says why.
    """
    if not isinstance(block, Recalibrate | CBAM | SCSE | GlobalContext | SelectiveKernel):
        raise InputError(f"{type(block).__name__} is no block; accepted: what senet.create_block gives")
    block.start_as_identity()
