"""Conclusions from a compared table, in sentences that follow from its numbers by rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal

from senet.analysis.evidence.compared import Compared, Contrast, Entry, network
from senet.analysis.paired import holm
from senet.analysis.wording import p_value, plural, signed
from senet.published import figures

__all__ = [
    "NOTE",
    "TERMS",
    "about",
    "contrast_cells",
    "exact_note",
    "interval",
    "many",
    "order",
    "published",
    "tally",
    "tested",
    "verdict",
]

NOTE = (
    "Top-1 error is 100 - accuracy, mean ± standard deviation over n seeds. The paper's errors have no spread; where "
    "networks and images are others, only the signs and the order of differences can be held together."
)
TERMS = (
    "Of the differences between two rows that the paper has too, one agrees with it where it has the paper's sign and "
    "is shown; it is contradicted where it has the other sign and is shown; it is open where it is not shown."
)


def about(compared: Compared) -> str:
    """Describes the training in a sentence: images, data set and epochs."""
    arm = next((row.arm for row in compared.rows if row.arm), None)
    if arm is None:
        return "Not run."
    images = arm.settings["train_images"]
    return f"Trained on {images:,} images of {arm.dataset} for {plural(arm.epochs, 'epoch')}."


def verdict(compared: Compared) -> str:
    """Compares the paper's table with the results of the seeds, in a sentence with the terms of :data:`TERMS`."""
    agree, contradict, left = tally(compared)
    if not agree + contradict + left:
        return published(compared) + ("; here is nothing to hold against it." if _differences(compared) else ".")
    likewise = sum(contrast.outcome == "same sign, not shown" for contrast in compared.contrasts)
    signs = f" ({likewise} with the paper's sign, {left - likewise} with the other)" if left else ""
    return (
        f"{published(compared)}; {plural(agree + contradict + left, 'difference')} here: {agree} in agreement, "
        f"{contradict} in contradiction, {left} open{signs}."
    )


def tally(compared: Compared) -> tuple[int, int, int]:
    """Counts the differences in agreement, in contradiction and open, as :data:`TERMS` defines them."""
    found = Counter(contrast.outcome for contrast in compared.contrasts)
    left = found["same sign, not shown"] + found["other sign, not shown"]
    return found["same sign, shown"], found["other sign, shown"], left


def published(compared: Compared) -> str:
    """Describes the paper's differences as a phrase, or what the paper gives instead of them."""
    if found := _differences(compared):
        return "The paper has less error " + ", ".join(
            f"{than} in {_share(each, what)}" for (than, what), each in found.items()
        )
    if compared.edition == "ours":
        return "The paper has no such table"
    for figure in figures(edition=compared.edition, table=compared.number):
        if figure.metric.endswith("_loss_below"):
            metric = figure.metric.removesuffix("_loss_below").replace("top", "top-")
            return f"The paper gives a bound of {figure.value} points on the cost in {metric} error, not tested here"
    return "The paper gives no errors of rows to compare"


def _differences(compared: Compared) -> dict[tuple[str, str], dict[str, tuple[Decimal, ...]]]:
    """The paper's differences by row, for each row that they are differences to; with how to speak of them."""
    found: dict[tuple[str, str], dict[str, tuple[Decimal, ...]]] = {}
    for row in compared.rows:
        for contrast in filter(None, (row.plain, row.standard)):
            if contrast.published:
                rows = (f"than {contrast.reference.row}", "row")
                words = rows if contrast.entry.row else ("with SE than without", "pair")
                found.setdefault(words, {})[contrast.entry.row] = contrast.published
    return found


def _share(each: Mapping[str, tuple[Decimal, ...]], what: str) -> str:
    differences = [difference for its in each.values() for difference in its]
    return f"{sum(difference < 0 for difference in differences)} of {plural(len(differences), what)}"


def order(compared: Compared) -> str:
    """States the number of pairs of rows in the paper's order; empty where the paper has no such rows."""
    alike, pairs = compared.ordered
    if not pairs:
        return ""
    return f"Pairs of rows in the paper's order, by the mean errors over the seeds of both: {alike} of {pairs}."


def interval(contrast: Contrast) -> str:
    """``−0.52 [−0.80, −0.24]``: the mean difference and its 95 % confidence interval, where there is one."""
    paired = contrast.paired
    if paired.spread is None:
        return "\N{EN DASH}"
    ends = "" if paired.low is None or paired.high is None else f" [{signed(paired.low)}, {signed(paired.high)}]"
    return signed(paired.spread.mean) + ends


def contrast_cells(contrast: Contrast) -> tuple[str, str, str, str, str]:
    """One difference as the cells of a row: name, interval in points, p, exact p, and what may be said of it."""
    paired = contrast.paired
    return (
        f"{contrast.entry.label} minus {contrast.reference.label}",
        interval(contrast),
        "" if paired.p is None else p_value(paired.p).removeprefix("p = ").removeprefix("p "),
        "" if paired.exact_p is None else f"{paired.exact_p:.4g}",
        contrast.outcome or ("shown" if paired.shown else "not shown"),
    )


def exact_note(contrasts: Iterable[Contrast]) -> str:
    """Explains the exact p value and its smallest possible value; empty where there is none."""
    counts = [contrast.paired.spread.n for contrast in contrasts if contrast.paired.exact_p and contrast.paired.spread]
    if not counts:
        return ""
    return (
        "Exact p is that of the sign-flip test, which assumes no normal distribution; with "
        f"{plural(max(counts), 'seed')} it is never below {2 / 2 ** max(counts):.4g}."
    )


def many(compared: Compared) -> str:
    """Lists the differences that are significant after adjustment for multiple tests; empty for fewer than two tests.

    The adjustment is Holm's, over all tested differences of the table, whether the paper has them or not.
    """
    tests = tested([compared]).values()
    if len(tests) < 2:
        return ""
    strict = [f"{contrast_cells(contrast)[0]}, {p_value(p)}" for contrast, p in tests if p < 0.05]
    return (
        f"{len(tests)} differences are tested at 95 % each: the more there are, the more likely one is chance. "
        f"Adjusted for all of them (Holm), p is below 0.05 for {len(strict)} of {len(tests)}"
        + (f": {'; '.join(strict)}." if strict else ".")
    )


def tested(tables: Iterable[Compared]) -> dict[tuple[str, str, str], tuple[Contrast, float]]:
    """All differences that were tested, each with its p value adjusted for all of them together (Holm).

    Returns:
        (data set, network, network it is compared with) -> difference and adjusted p value: one, though several tables
        may share it.
    """
    found = {
        (compared.dataset or "", _network(contrast.entry), _network(contrast.reference)): contrast
        for compared in tables
        for contrast in compared.contrasts
        if contrast.paired.p is not None
    }
    adjusted = holm([contrast.paired.p for contrast in found.values() if contrast.paired.p is not None])
    return {key: (found[key], p) for key, p in zip(found, adjusted, strict=True)}


def _network(entry: Entry) -> str:
    return network(entry.model, entry.options)
