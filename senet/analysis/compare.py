"""Runs compared honestly: differences between runs of equal seed, and what may be said of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from senet.analysis.arms import Arm, group
from senet.analysis.paired import Paired, pair
from senet.analysis.wording import p_value, signed
from senet.options import to_plain

__all__ = ["Comparison", "Difference", "compare"]


@dataclass(frozen=True)
class Difference(Paired):
    """The score of ``arm`` minus that of ``baseline``, in points, seed by seed."""

    arm: str
    baseline: str
    metric: str = "top-1"

    @property
    def verdict(self) -> str:
        """Conclusion that the seeds allow, in a sentence.

        ``better`` or ``worse`` where they show a difference (:attr:`shown`); ``no difference that these n seeds can
        show`` where they do not; with one seed, or equal differences, only what they are; with none in common nothing.
        """
        if self.spread is None:
            return f"{self.arm} and {self.baseline} have no seed in common, so there is nothing to pair."
        mean, n = self.spread.mean, self.spread.n
        difference = f"{self.arm} minus {self.baseline} is {signed(mean)} points of {self.metric}"
        if self.spread.sd is None:
            return f"{difference} with seed {self.seeds[0]}; one seed shows nothing about spread."
        if self.p is None:
            return f"{difference} with each of {n} seeds; equal differences have no interval."
        numbers = f"sd of the difference {self.spread.sd:.2f}, n = {n}, {p_value(self.p)}"
        if self.shown:
            word = "better" if mean > 0 else "worse"
            return f"{self.arm} is {abs(mean):.2f} points of {self.metric} {word} than {self.baseline} ({numbers})."
        return f"No difference that these {n} seeds can show: {difference} ({numbers})."


@dataclass(frozen=True)
class Comparison:
    """Arms in the order given, each but the first compared with the first, the baseline."""

    dataset: str
    arms: tuple[Arm, ...]
    differences: tuple[Difference, ...]
    caveats: tuple[str, ...]  # sentences a reader of the verdicts must know

    def to_dict(self) -> dict[str, Any]:
        """All of it as what JSON can write, with each verdict."""
        plain: dict[str, Any] = to_plain(self)
        for difference, written in zip(self.differences, plain["differences"], strict=True):
            written.update(shown=difference.shown, verdict=difference.verdict)
        return plain


def compare(summaries: Iterable[Mapping[str, Any]]) -> Comparison:
    """Groups runs into arms and compares every arm with the first, by equal seeds.

    Args:
        summaries: one a run, with ``run``, ``recipe``, ``model``, ``parameters``, ``seed``, ``epochs``,
            ``seconds``, ``top1`` and ``top5`` (percent; ``top5`` may be None) and ``val_loss``, or of detectors ``ap``
            and ``ap50`` (see :mod:`senet.analysis.metrics`), ``dataset``,
            ``train_images`` and ``val_images`` (how many); and where known ``settings`` (what else decided the
            result, names and values), ``classes`` (names), ``images`` (fingerprints of the splits) and ``label`` (what
            the arm is called). Runs of one model, as many epochs, the same settings and the same images are one arm.

    Raises:
        InputError: no run, a key missing, results that are no percentages, different held-out images or classes, or
            one seed twice in an arm (the same thing twice is no evidence).
    """
    arms = group(summaries)
    differences = tuple(_difference(arm, arms[0]) for arm in arms[1:])
    return Comparison(arms[0].dataset, arms, differences, _caveats(arms))


def _difference(arm: Arm, baseline: Arm) -> Difference:
    mine, theirs = (dict(zip(each.seeds, each.accuracies, strict=True)) for each in (arm, baseline))
    return Difference(**vars(pair(mine, theirs)), arm=arm.name, baseline=baseline.name, metric=arm.metric.name)


def _caveats(arms: Sequence[Arm]) -> tuple[str, ...]:
    caveats = []
    if len({arm.epochs for arm in arms}) > 1:
        each = ", ".join(f"{arm.name}: {arm.epochs}" for arm in arms)
        caveats.append(f"The arms were not trained for the same number of epochs ({each}).")
    if any(_differ(arms, name) for name in ("train_images", "train_fingerprint")):
        caveats.append("The arms were not trained on the same images.")
    told = {"epochs", "train_images", "train_fingerprint"}
    names = sorted({name for arm in arms for name in arm.settings} - told)
    others = [name for name in names if not name.startswith("model.") and _differ(arms, name)]
    if others:
        caveats.append(f"The arms differ in more than the network: {', '.join(others)}.")
    unpaired = sorted({seed for arm in arms for seed in arm.seeds if any(seed not in a.seeds for a in arms)})
    if unpaired:
        caveats.append(f"Not every arm has every seed; missing somewhere: {', '.join(map(str, unpaired))}.")
    if len(arms) > 2:
        caveats.append(
            f"{len(arms) - 1} differences are tested at 95 % each: the more there are, the more likely one is chance."
        )
    return tuple(caveats)


def _differ(arms: Sequence[Arm], name: str) -> bool:
    return any(arm.settings.get(name) != arms[0].settings.get(name) for arm in arms)
