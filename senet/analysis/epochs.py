"""Training as a table by epoch: losses, accuracy and errors of each arm at chosen epochs, on the page and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from senet.analysis.arms import Arm, Spread
from senet.analysis.plots import sampled
from senet.errors import InputError

__all__ = ["COLUMNS", "EpochRow", "epoch_table", "to_csv"]

_MOST = 5  # epochs that are shown where none are asked for

# Fields of a row, as readers call them
COLUMNS: Mapping[str, str] = {
    "train_loss": "training loss",
    "train_top1": "training top-1, %",
    "val_loss": "validation loss",
    "top1_error": "top-1 error, %",
    "top5_error": "top-5 error, %",
}


@dataclass(frozen=True)
class EpochRow:
    """An arm after an epoch: mean and standard deviation over its seeds.

    Attributes:
        epoch: from 1.
        arm: its name.
        train_loss: mean over the epoch's images, changed and mixed as they were learnt from, before each step.
        train_top1: accuracy on them, percent.
        val_loss: on the held-out images after the epoch.
        top1_error: on them, 100 - accuracy, percent.
        top5_error: likewise; None with five classes or fewer.
    """

    epoch: int
    arm: str
    train_loss: Spread
    train_top1: Spread
    val_loss: Spread
    top1_error: Spread
    top5_error: Spread | None


def epoch_table(
    arms: Sequence[Arm],
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
    epochs: Sequence[int] | None = None,
) -> tuple[EpochRow, ...]:
    """Each arm after each of some epochs, epoch by epoch.

    An arm has a row where all its runs were trained so long and have a history; others have none.

    Args:
        arms: as :func:`senet.analysis.arms.group` gives them.
        histories: run -> a line an epoch, as ``metrics.jsonl`` has them: ``train_loss``, ``train_top1``, ``val_loss``,
            ``val_top1`` and ``val_top5`` (percent; the last may be None).
        epochs: from 1; None: at most five, evenly spread, the last among them.

    Raises:
        InputError: an epoch that no arm was trained for, or the same one twice.
    """
    lasts = {arm.name: min(len(histories.get(run, ())) for run in arm.runs) for arm in arms}
    longest = max(lasts.values(), default=0)
    if epochs is None:
        last = range(1, longest + 1)
        epochs = [last[i] for i in sampled(longest, _MOST)]
    if len(set(epochs)) < len(epochs):
        raise InputError(f"the epochs are {', '.join(map(str, epochs))}; give each once")
    if beyond := [epoch for epoch in epochs if not 1 <= epoch <= longest]:
        raise InputError(f"no network was trained for epoch {beyond[0]}; accepted: 1 to {longest}")
    return tuple(
        _row(arm, epoch, [histories[run][epoch - 1] for run in arm.runs])
        for epoch in epochs
        for arm in arms
        if epoch <= lasts[arm.name]
    )


def _row(arm: Arm, epoch: int, lines: Sequence[Mapping[str, Any]]) -> EpochRow:
    def spread(key: str) -> Spread:
        return Spread.of([line[key] for line in lines])

    def error(key: str) -> Spread:
        return Spread.of([100 - line[key] for line in lines])

    has_top5 = all(line["val_top5"] is not None for line in lines)
    return EpochRow(
        epoch,
        arm.name,
        spread("train_loss"),
        spread("train_top1"),
        spread("val_loss"),
        error("val_top1"),
        error("val_top5") if has_top5 else None,
    )


def to_csv(rows: Sequence[EpochRow]) -> str:
    """Rows as CSV with a line of names (RFC 4180): of each number its mean, and its standard deviation where seeds.

    Columns are ``epoch``, ``network``, ``seeds``, then of each of :data:`COLUMNS` the mean by its name and the
    standard deviation by that with ``_sd``; what is not there is empty. Numbers have all their digits.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["epoch", "network", "seeds", *(part for name in COLUMNS for part in (name, f"{name}_sd"))])
    for row in rows:
        writer.writerow([row.epoch, row.arm, row.train_loss.n, *_numbers(row)])
    return text.getvalue()


def _numbers(row: EpochRow) -> Iterator[float | str]:
    for name in COLUMNS:
        value: Spread | None = getattr(row, name)
        yield "" if value is None else value.mean
        yield "" if value is None or value.sd is None else value.sd
