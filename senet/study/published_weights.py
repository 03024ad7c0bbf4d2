"""Published weights run again on images, beside what was published of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from senet.errors import InputError
from senet.models.weights.pretrained import weights_of
from senet.published import Figure
from senet.train.apply import evaluate_run
from senet.train.trained import read_trained

__all__ = ["Evaluated", "evaluate_published"]


@dataclass(frozen=True)
class Evaluated:
    """A published row beside weights of its network. Errors are top-1, in percent.

    Attributes:
        row: as printed.
        weight: the weights' name.
        published: the row's error.
        stated: the error that the weights' own source states; None where it states none.
        measured: here.
        images: on so many.
    """

    row: str
    weight: str
    published: Decimal
    stated: float | None
    measured: float
    images: int

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % interval of ``measured``, in points, by the normal approximation."""
        share = self.measured / 100
        return 196 * math.sqrt(share * (1 - share) / self.images)


def evaluate_published(
    figures: Sequence[Figure], data: Path, *, progress: Callable[[int, int], None] | None = None
) -> Iterator[Evaluated]:
    """Evaluates all pretrained weights of the networks in a table.

    Args:
        figures: of one table.
        data: the validation images, a folder a class.
        progress: is told how many images of how many are decoded.

    Raises:
        InputError: there are no weights for any row, or they or the images cannot be had.
    """
    rows = {
        figure.row: (figure, 100 - figure.value if figure.metric == "top1_accuracy" else figure.value)
        for figure in figures
        if figure.metric in ("top1_error", "top1_accuracy", "error")
    }
    found = [
        (row, weight, error)
        for row, (figure, error) in rows.items()
        if figure.model is not None and not figure.options
        for weight in weights_of(figure.model)
    ]
    if not found:
        raise InputError("no pretrained weights are known of the networks in this table; `senet models --pretrained`")
    for row, weight, error in found:
        result = evaluate_run(read_trained(str(weight)), data, progress=progress)
        top1 = weight.published[0].top1
        stated = None if top1 is None else 100 - top1
        yield Evaluated(row, str(weight), error, stated, 100 - result.top1, result.images)
