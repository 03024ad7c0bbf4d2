"""Numbers as a reader wants them."""

from __future__ import annotations

import math

from senet.analysis.arms import Spread

__all__ = ["count", "duration", "loss", "p_value", "percent", "plural", "signed", "spread"]


def count(number: int) -> str:
    """``25 557 032``, the thousands apart by narrow spaces that do not break."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def spread(value: Spread | None, digits: int = 2) -> str:
    """``91.40 ± 0.90``, the sample standard deviation left out for a single seed; a dash for nothing."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value.mean:.{digits}f}" + ("" if value.sd is None else f" ± {value.sd:.{digits}f}")


def loss(value: Spread | None) -> str:
    """``0.284 ± 0.012``: losses are small where two digits would hide how they fall."""
    return spread(value, 3)


def duration(seconds: float) -> str:
    """``4.2 s``, ``3 min 05 s`` or ``2 h 14 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def plural(number: int, word: str) -> str:
    """``1 epoch`` or ``2 epochs``."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def percent(share: float) -> str:
    """A share from 0 to 1 as ``37 %``; a dash for one that is not defined."""
    return "\N{EN DASH}" if math.isnan(share) else f"{100 * share:.0f} %"


def signed(points: float) -> str:
    """``+0.41`` or ``−0.41``, with a true minus."""
    return f"{points:+.2f}".replace("-", "\N{MINUS SIGN}")


def p_value(p: float) -> str:
    """``p = 0.03`` to two digits, ``p < 0.001`` below that."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
