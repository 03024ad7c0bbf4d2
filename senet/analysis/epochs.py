"""Training as a table by epoch: losses and scores of each arm at chosen epochs, on the page and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from senet.analysis.arms import Arm, Spread
from senet.analysis.plots import sampled
from senet.errors import InputError

__all__ = ["Column", "EpochRow", "EpochTable", "epoch_table"]

_MOST = 5  # epochs that are shown where none are asked for


@dataclass(frozen=True)
class Column:
    """A number of an epoch.

    Attributes:
        name: in CSV and JSON.
        title: as readers call it.
        key: in a line of ``metrics.jsonl``.
        is_loss: whether it is a loss; else it is in percent.
        is_error: whether it is shown as 100 minus what the line says.
    """

    name: str
    title: str
    key: str
    is_loss: bool = False
    is_error: bool = False


# By the key of the metric that networks are judged by. Training numbers are means over the epoch's images, changed and
# mixed as they were learnt from, before each step; the others are of the held-out images after the epoch.
_COLUMNS = {
    "top1": (
        Column("train_loss", "training loss", "train_loss", is_loss=True),
        Column("train_top1", "training top-1, %", "train_top1"),
        Column("val_loss", "validation loss", "val_loss", is_loss=True),
        Column("top1_error", "top-1 error, %", "val_top1", is_error=True),
        Column("top5_error", "top-5 error, %", "val_top5", is_error=True),
    ),
    "ap": (
        Column("train_loss", "training loss", "train_loss", is_loss=True),
        Column("ap", "AP, %", "val_ap"),
        Column("ap50", "AP50, %", "val_ap50"),
        Column("ap75", "AP75, %", "val_ap75"),
    ),
}


@dataclass(frozen=True)
class EpochRow:
    """An arm after an epoch.

    Attributes:
        epoch: from 1.
        arm: its name.
        numbers: by the name of the column, mean and standard deviation over the arm's seeds; None where the task has no
            such number, as top-5 errors with five classes or fewer.
    """

    epoch: int
    arm: str
    numbers: Mapping[str, Spread | None]


@dataclass(frozen=True)
class EpochTable:
    """Arms after some epochs; false where it has no row."""

    columns: tuple[Column, ...]
    rows: tuple[EpochRow, ...]

    def __bool__(self) -> bool:
        return bool(self.rows)

    def to_dicts(self) -> list[dict[str, Any]]:
        """A dictionary for each row: ``epoch``, ``arm``, and for each column mean, standard deviation and number."""
        return [
            {"epoch": row.epoch, "arm": row.arm}
            | {name: None if value is None else asdict(value) for name, value in row.numbers.items()}
            for row in self.rows
        ]

    def to_csv(self) -> str:
        """Rows as CSV with a line of names (RFC 4180): of each number its mean, and its standard deviation where seeds.

        Columns are ``epoch``, ``network``, ``seeds``, then of each number the mean by its name and the standard
        deviation by that with ``_sd``; what is not there is empty. Numbers have all their digits.
        """
        text = io.StringIO()
        writer = csv.writer(text)
        names = [part for column in self.columns for part in (column.name, f"{column.name}_sd")]
        writer.writerow(["epoch", "network", "seeds", *names])
        for row in self.rows:
            seeds = next(value.n for value in row.numbers.values() if value is not None)
            writer.writerow([row.epoch, row.arm, seeds, *_numbers(row)])
        return text.getvalue()


def epoch_table(
    arms: Sequence[Arm],
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
    epochs: Sequence[int] | None = None,
) -> EpochTable:
    """Each arm after each of some epochs, epoch by epoch.

    An arm has a row where all its runs were trained so long and have a history; others have none.

    Args:
        arms: as :func:`senet.analysis.arms.group` gives them, all judged by one metric.
        histories: run -> a line an epoch, as ``metrics.jsonl`` has them: of classifiers ``train_loss``, ``train_top1``,
            ``val_loss``, ``val_top1`` and ``val_top5`` (percent; the last may be None), of detectors ``train_loss``,
            ``val_ap``, ``val_ap50`` and ``val_ap75``.
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
    columns = _COLUMNS[arms[0].metric.key] if arms else ()
    return EpochTable(
        columns,
        tuple(
            _row(arm, epoch, columns, [histories[run][epoch - 1] for run in arm.runs])
            for epoch in epochs
            for arm in arms
            if epoch <= lasts[arm.name]
        ),
    )


def _row(arm: Arm, epoch: int, columns: Sequence[Column], lines: Sequence[Mapping[str, Any]]) -> EpochRow:
    def spread(column: Column) -> Spread | None:
        values = [line[column.key] for line in lines]
        if any(value is None for value in values):
            return None
        return Spread.of([100 - value if column.is_error else value for value in values])

    return EpochRow(epoch, arm.name, {column.name: spread(column) for column in columns})


def _numbers(row: EpochRow) -> Iterator[float | str]:
    for value in row.numbers.values():
        yield "" if value is None else value.mean
        yield "" if value is None or value.sd is None else value.sd
