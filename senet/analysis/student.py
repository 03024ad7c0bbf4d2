"""Student's t distribution, so that a handful of seeds needs no SciPy."""

from __future__ import annotations

import math

__all__ = ["t_quantile", "two_sided_p"]


def t_quantile(p: float, df: int) -> float:
    """The t with P(T <= t) = p, for 1/2 <= p < 1 and ``df`` >= 1 degrees of freedom; exact to about 1e-12.

    Source: the closed form of P(abs(T) <= t) for whole degrees of freedom, Abramowitz and Stegun 26.7.3 and
    26.7.4 in the angle atan(t / sqrt(df)), inverted by bisection.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _central(middle, df) < 2 * p - 1 else (low, middle)
    return math.sqrt(df) * math.tan(low)


def two_sided_p(t: float, df: int) -> float:
    """P(abs(T) >= abs(t)) for ``df`` >= 1 degrees of freedom, to about 1e-15; 0 where t is infinite."""
    return max(0.0, 1 - _central(math.atan(abs(t) / math.sqrt(df)), df))


def _central(angle: float, df: int) -> float:
    """P(abs(T) <= sqrt(df) tan(angle))."""
    cos, odd = math.cos(angle), df % 2
    term, total = (cos if odd else 1.0), 0.0
    for k in range(2 + odd, df + 1, 2):
        total += term
        term *= cos**2 * (k - 1) / k
    if odd:
        return (angle + math.sin(angle) * total) * 2 / math.pi
    return math.sin(angle) * total
