"""Two arms compared seed by seed: the mean difference, its interval, and what tests say of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from senet.analysis.arms import Spread
from senet.analysis.student import t_quantile, two_sided_p

__all__ = ["ROUNDING", "RULE", "Paired", "holm", "pair", "sign_flip_p"]

RULE = (
    "A difference is shown where the 95 % confidence interval of its mean over seeds excludes zero: "
    "mean ± t(0.975, n - 1) sd / sqrt(n), the paired t-test at p < 0.05. Equal differences have no interval."
)
ROUNDING = 1e-9
"""What is smaller, in points, is zero but for rounding."""

_MOST = 12  # differences whose signs are all tried: 4096 ways


@dataclass(frozen=True)
class Paired:
    """Differences between runs of equal seed.

    The t-test takes the differences for draws of one normal distribution; the sign-flip test only takes each to be as
    likely the other way round, were there no effect. Both speak of what the seed decides (initial weights, order,
    augmentation), not of which images happen to be held out. Differences that are all equal say nothing of their
    spread, however many they are: they have neither interval nor t-test, only the sign-flip test.

    Attributes:
        seeds: those that both sides have.
        points: the difference of each seed, in points.
        spread: mean and standard deviation of the points; None where no seed is in common.
        low: lower end of the 95 % confidence interval of the mean; None for fewer than two seeds, and where the points
            are equal up to :data:`ROUNDING`.
        high: its upper end, or None likewise.
        p: two-sided p value of the paired t-test, or None likewise.
        exact_p: that of the sign-flip test, see :func:`sign_flip_p`; None for fewer than two seeds.
    """

    seeds: tuple[int, ...]
    points: tuple[float, ...]
    spread: Spread | None
    low: float | None
    high: float | None
    p: float | None
    exact_p: float | None

    @property
    def shown(self) -> bool:
        """Whether the seeds show a difference, by :data:`RULE`: the one place where this is decided."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    @property
    def half_width(self) -> float | None:
        """Half of the interval's width; None where there is no interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def pair(mine: Mapping[int, float], theirs: Mapping[int, float]) -> Paired:
    """The differences ``mine`` minus ``theirs``, each a number by seed, over the seeds of both."""
    seeds = tuple(seed for seed in sorted(mine) if seed in theirs)
    points = tuple(mine[seed] - theirs[seed] for seed in seeds)
    spread = Spread.of(points) if points else None
    exact_p = sign_flip_p(points) if len(points) > 1 else None
    if spread is None or spread.sd is None or spread.sd < ROUNDING:
        return Paired(seeds, points, spread, None, None, None, exact_p)
    error, df = spread.sd / math.sqrt(spread.n), spread.n - 1
    half, p = t_quantile(0.975, df) * error, two_sided_p(spread.mean / error, df)
    return Paired(seeds, points, spread, spread.mean - half, spread.mean + half, p, exact_p)


def sign_flip_p(points: Sequence[float]) -> float | None:
    """Two-sided p value of the exact paired permutation test: the share of all choices of signs at least as extreme.

    Of n differences it is never below 2 / 2**n: 0.0625 of five, 0.03125 of six. None for more than twelve.

    Source: R. A. Fisher, The Design of Experiments, 1935, section 21.
    """
    if len(points) > _MOST:
        return None
    sizes = [abs(point) for point in points]
    least = abs(math.fsum(points)) - 1e-9 * math.fsum(sizes)  # rounding makes no sum less extreme
    flipped = itertools.product(*((size, -size) for size in sizes))
    return sum(abs(math.fsum(choice)) >= least for choice in flipped) / 2 ** len(sizes)


def holm(ps: Sequence[float]) -> tuple[float, ...]:
    """P values adjusted for being many, in the order given: below 0.05, all of these hold together at that level.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6,
    1979.
    """
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, at in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[at]))
        adjusted[at] = largest
    return tuple(adjusted)
