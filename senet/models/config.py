"""What every network of ours can be told: classes, input channels, and which block sits where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from torch import nn

from senet.blocks import create_block
from senet.errors import InputError
from senet.options import checked

__all__ = ["NetConfig", "Placement"]

Placement = Literal["standard", "pre", "post", "identity", "3x3"]


@dataclass(frozen=True, kw_only=True)
class NetConfig:
    """The options that all networks share.

    Args:
        num_classes: outputs of the classifier; 0 for none, the network then returns pooled features.
        in_chans: channels of the input image.
        attn: the block at every site, by the name that :func:`senet.create_block` knows; None for the plain twin.
        attn_options: the block's own options, for example ``{"reduction": 4}``.
        placement: where in a residual unit the block sits (paper, Fig. 5 and Sec. 6.5): ``"standard"`` at the end
            of the branch before the sum, ``"pre"`` before the branch, ``"post"`` after sum and ReLU,
            ``"identity"`` on the shortcut, ``"3x3"`` inside a bottleneck after its 3x3 convolution.
        stages: the stages that have blocks, by the paper's numbers (the stem is stage 1); None for all.
    """

    num_classes: int = 1000
    in_chans: int = 3
    attn: str | None = None
    attn_options: Mapping[str, Any] = field(default_factory=dict)
    placement: Placement = "standard"
    stages: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be built, and settings that would silently do nothing.

        Raises:
            InputError: says which option, its value and what is accepted.
        """
        checked(type(self), {f.name: getattr(self, f.name) for f in fields(self)}, what=type(self).__name__)
        if self.num_classes < 0:
            raise InputError(f"num_classes is {self.num_classes}; accepted: 0 (no classifier) or more")
        if self.in_chans < 1:
            raise InputError(f"in_chans is {self.in_chans}; accepted: 1 or more")
        if self.attn is None and (self.attn_options or self.placement != "standard" or self.stages is not None):
            raise InputError("attn_options, placement and stages say how blocks sit, but attn is none; give attn='se'")

    def block_at(self, stage: int, channels: int) -> nn.Module | None:
        """The block for a site in a stage, or None where there is none."""
        if self.attn is None or (self.stages is not None and stage not in self.stages):
            return None
        return create_block(self.attn, channels, self.attn_options)
