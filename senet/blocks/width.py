"""Width of an excitation's bottleneck: the same ratio means different widths in different libraries."""

from __future__ import annotations

from typing import Literal

from senet.errors import InputError

__all__ = ["Rounding", "hidden_width"]

Rounding = Literal["paper", "timm", "torchvision"]

DEFAULT_REDUCTION = 16  # the paper's r


def hidden_width(
    channels: int,
    *,
    reduction: float | None = None,
    hidden_channels: int | None = None,
    rounding: Rounding = "paper",
    default: float = DEFAULT_REDUCTION,
    least: int = 1,
) -> int:
    """The hidden width of an excitation on ``channels`` channels.

    Args:
        channels: channels C of the map.
        reduction: the paper's ratio r; the width is C / r, rounded. None means ``default``.
        hidden_channels: the width itself; excludes ``reduction``.
        rounding: ``"paper"`` rounds down (all published widths divide evenly), ``"timm"`` to the nearest
            multiple of 8, at least 8, ``"torchvision"`` likewise but never more than 10 % below C / r
            (MobileNetV3's rule). C=64, r=16 gives 4, 8, 8.
        default: the ratio where neither is given.
        least: the smallest width that a ratio leads to.

    Raises:
        InputError: both widths given, or one below 1.
    """
    if hidden_channels is not None:
        if reduction is not None:
            raise InputError(
                f"reduction={reduction} and hidden_channels={hidden_channels} both say how wide the excitation is; "
                "give one of them"
            )
        if hidden_channels < 1:
            raise InputError(f"hidden_channels is {hidden_channels}; accepted: 1 or more")
        return hidden_channels
    ratio = default if reduction is None else reduction
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not ratio > 0:
        raise InputError(f"reduction is {reduction!r}; accepted: above 0 (the paper's r, {default} by default)")
    width = channels / ratio
    if rounding == "paper":
        return max(least, int(width))
    if rounding not in ("timm", "torchvision"):
        raise InputError(f"rounding is {rounding!r}; accepted: 'paper', 'timm', 'torchvision'")
    to_eight = max(8, int(width + 4) // 8 * 8)
    if rounding == "torchvision" and to_eight < 0.9 * width:
        to_eight += 8
    return max(least, to_eight)
