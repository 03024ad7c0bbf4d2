"""Options of every network of ours: classes, input channels, dropout, and the block at its sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from torch import nn

from senet.blocks import create_block
from senet.errors import InputError
from senet.options import checked

__all__ = ["NetConfig"]


@dataclass(frozen=True, kw_only=True)
class NetConfig:
    """The options that all networks share.

    Args:
        num_classes: outputs of the classifier; 0 for none, the network then returns pooled features.
        in_chans: channels of the input image.
        drop_rate: dropout before the classifier, from 0 to below 1.
        drop_path_rate: stochastic depth (arXiv 1603.09382): the last residual unit is left out with this
            probability, those before it with ones that fall linearly to 0 at the first.
        attn: the block at every site, by the name that :func:`senet.create_block` knows; None for the plain twin.
        attn_options: the block's own options, for example ``{"reduction": 4}``, which counts from the channels of the
            map, also in families whose own SE has a width that comes from the unit's input.
        stages: the stages that have blocks, by the paper's numbers; each family says how it counts. None for all.
    """

    num_classes: int = 1000
    in_chans: int = 3
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    attn: str | None = None
    attn_options: Mapping[str, Any] = field(default_factory=dict)
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
        for name in ("drop_rate", "drop_path_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; accepted: from 0 to below 1")
        if self.attn is None and (self.attn_options or self.stages is not None):
            raise InputError("attn_options and stages say how blocks sit, but attn is none; give attn='se'")

    def block_at(self, stage: int, channels: int, *, hidden: int | None = None) -> nn.Module | None:
        """The block for a site in a stage, or None where there is none.

        Args:
            stage: the site's stage.
            channels: channels of the map there.
            hidden: the width that the network gives SE's hidden layer here, where it is no function of ``channels``
                alone; the user's own ``reduction`` or ``hidden_channels`` goes first, and other blocks have none.

        Raises:
            InputError: an option that the block refuses, or a ``rounding`` where ``hidden`` leaves nothing to round.
        """
        if self.attn is None or (self.stages is not None and stage not in self.stages):
            return None
        options = dict(self.attn_options)
        if self.attn == "se" and hidden is not None and not {"reduction", "hidden_channels"} & options.keys():
            if "rounding" in options:
                raise InputError(
                    f"rounding is {options['rounding']!r}, but the network itself gives SE its hidden width; "
                    "give attn_options a reduction too, or leave rounding out"
                )
            options["hidden_channels"] = hidden
        return create_block(self.attn, channels, options)

    def without_blocks(self, **changes: Any) -> Self:
        """The options of the plain twin, and some changed."""
        placements = [f for f in fields(self) if f.name == "placement"]  # where a family has them
        placement: dict[str, Any] = {f.name: f.default for f in placements}
        return replace(self, attn=None, attn_options={}, stages=None, **placement, **changes)

    def drop_path_rates(self, units: int) -> list[float]:
        """The probability of leaving out each of the residual units, from first to last."""
        return [self.drop_path_rate * index / max(units - 1, 1) for index in range(units)]

    def refuse_drop_path(self, why: str) -> None:
        """Refuses stochastic depth where it would do nothing.

        Args:
            why: what the network does not have: ``"VGG has no shortcuts"``.

        Raises:
            InputError: ``drop_path_rate`` is not 0.
        """
        if self.drop_path_rate:
            raise InputError(f"drop_path_rate is {self.drop_path_rate}, but {why}; leave it out")

    def check_positive(self, *names: str) -> None:
        """Refuses a number below 1 in any of these fields, each a whole number, several, or None.

        Raises:
            InputError: names the field and its value.
        """
        for name in names:
            value = getattr(self, name)
            if isinstance(value, tuple) and min(value, default=1) < 1:
                raise InputError(f"{name} is {list(value)}; accepted: numbers of 1 or more")
            if isinstance(value, int) and value < 1:
                raise InputError(f"{name} is {value}; accepted: 1 or more")

    def check_stages(self, known: Sequence[int]) -> None:
        """Refuses stages that the network does not have.

        Raises:
            InputError: names those it has.
        """
        if self.stages is not None and not set(self.stages) <= set(known):
            stem = "" if 1 in known else " (the stem is stage 1)"
            raise InputError(f"stages is {list(self.stages)}; accepted: any of {list(known)}{stem}")
