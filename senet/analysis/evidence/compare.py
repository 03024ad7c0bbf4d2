"""From results of runs to a table of the paper beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from senet.analysis.arms import Arm, group
from senet.analysis.evidence.compared import Compared, Contrast, Entry, Row, errors_of, network
from senet.analysis.paired import pair
from senet.errors import InputError
from senet.options import flatten, to_plain
from senet.published import figures, tables

__all__ = ["compare_table"]

Baseline = Callable[[Any], Entry | None]

_PAPER = {
    "attn_options.reduction": "16",
    "attn_options.squeeze": "avg",
    "attn_options.gate": "sigmoid",
    "placement": "standard",
}  # as text, which any value of an option has


def compare_table(
    lines: Sequence[Mapping[str, Any]],
    entries: Sequence[Entry],
    baseline: Baseline,
    *,
    edition: str = "tpami",
    number: str,
    seeds: Sequence[int],
    title: str = "",
) -> Compared:
    """Finds the runs of each entry and compares them by equal seeds, each with its plain network and the paper's block.

    The paper's block is the entry of the same network with r = 16, average, sigmoid, in the standard place, in all
    stages (arXiv 1709.01507v4, Sec. 3 and 6); with or without biases.

    Args:
        lines: results of runs on one data set: the summaries that :func:`senet.analysis.compare.compare` takes, with
            the whole recipe as ``plain``. Those of other networks are left out.
        entries: what the table asks for.
        baseline: gives an entry's plain network; None for a plain network.
        edition: a key of :func:`senet.published.editions`.
        number: the table's, there.
        seeds: those that were planned.
        title: of a comparison that nobody published; its edition is ``"ours"``, and no row of it is published.

    Raises:
        InputError: no such table, or no such row in it; runs to be compared that differ in more than network and
            seed, or that :func:`senet.analysis.compare.compare` refuses.
    """
    if title:
        edition = "ours"
    elif (edition, number) not in tables():
        raise InputError(f"{edition} has no table {number!r}; `senet reproduce --list` names all")
    there = () if title else figures(edition=edition, table=number)
    published = {f.row: f.value for f in there if f.metric in ("top1_error", "error")}
    rows = {f.row for f in there}
    if unknown := next((entry for entry in entries if entry.row not in ("", *rows)), None):
        raise InputError(f"table {number} of {edition} has no row {unknown.row!r}; it has {', '.join(sorted(rows))}")
    found = _arms(lines, entries)

    def contrast(entry: Entry, reference: Entry | None, *, twins: bool) -> Contrast | None:
        if reference is None or reference.label == entry.label:
            return None
        mine, theirs = found.get(entry.label), found.get(reference.label)
        if mine and theirs:
            _trained_alike(mine, theirs)
        paired = pair(errors_of(mine), errors_of(theirs))
        if entry.row in published and reference.row in published:
            return Contrast(entry, reference, paired, (published[entry.row] - published[reference.row],))
        return Contrast(entry, reference, paired, tuple(_gains(published)) if twins and not entry.row else ())

    def row(entry: Entry) -> Row:
        plain = baseline(entry)
        standard = _standard(entry, entries, plain)
        arm, printed = found.get(entry.label), published.get(entry.row)
        against = contrast(entry, plain, twins=True), contrast(entry, standard, twins=False)
        return Row(entry, tuple(seeds), arm, printed, *against)

    dataset = next((arm.dataset for arm in found.values()), None)
    return Compared(edition, number, title or tables()[edition, number], dataset, tuple(map(row, entries)))


def _arms(lines: Sequence[Mapping[str, Any]], entries: Sequence[Entry]) -> dict[str, Arm]:
    """The arms by label."""
    wanted = {network(entry.model, entry.options): entry.label for entry in entries}
    labels = {line["run"]: wanted.get(network(line["model"], line["plain"]["model"]["options"])) for line in lines}
    runs = [line for line in lines if labels[line["run"]] is not None]
    found: dict[str, Arm] = {}
    for arm in group(runs) if runs else ():
        label = str(labels[arm.runs[0]])
        _trained_alike(arm, found.setdefault(label, arm))
    return found


def _trained_alike(one: Arm, other: Arm) -> None:
    names = sorted({*one.settings, *other.settings})
    differing = [n for n in names if not n.startswith("model.") and one.settings.get(n) != other.settings.get(n)]
    if differing:
        raise InputError(
            f"runs {other.runs[0]!r} and {one.runs[0]!r} differ in {', '.join(differing)}; compare networks that were "
            "trained alike"
        )


def _standard(entry: Entry, entries: Sequence[Entry], plain: Entry | None) -> Entry | None:
    """The entry with the paper's block in the same network."""
    shared = {} if plain is None else _flat(plain)
    for other in entries:
        own = {name: value for name, value in _flat(other).items() if name not in shared or shared[name] != value}
        own.pop("attn_options.bias", None)
        if other.model == entry.model and own.items() <= _PAPER.items():
            return other
    return None


def _flat(entry: Entry) -> dict[str, Any]:
    return {name: str(value) for name, value in flatten(to_plain(entry.options)).items()}


def _gains(published: Mapping[str, Decimal]) -> Iterator[Decimal]:
    """Yields the change of error by SE for every network that a table has with and without it."""
    for row, error in published.items():
        if row.startswith("SE-") and (plain := row.removeprefix("SE-")) in published:
            yield error - published[plain]
