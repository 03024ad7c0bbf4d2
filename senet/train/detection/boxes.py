"""Boxes as they are found in files: refused, left out, clipped or taken, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from senet.analysis.wording import plural
from senet.errors import InputError

__all__ = ["MOST_PIXELS", "Judge", "is_pixel"]

Box = tuple[float, float, float, float]

MOST_PIXELS = 1_000_000  # either way; float32 has tenths of a pixel up to there
_THIN = 0.1  # pixels: resized as float32, a thinner box could have no width left (pytorch/vision issue 8376)
_KINDS = {
    "degenerate": "without width or height left out",
    "outside": "outside of the image left out",
    "clipped": "partly outside of the image clipped",
    "crowd": "of crowds or marked difficult not learnt from",
}


@dataclass
class Judge:
    """Looks at all boxes of a split, and keeps count of what was done to them.

    Attributes:
        counts: of each kind.
        first: the first of each kind, by file and entry.
        empty: images without a box that can be learnt from; they are kept.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    empty: int = 0

    def clip(self, box: Sequence[object], size: tuple[int, int], where: str) -> Box | None:
        """A box as it can be learnt from, or None where it cannot.

        Args:
            box: left, top, right, bottom in pixels, 0-based.
            size: of the image, height and width.
            where: file and entry, as errors and notes call the box.

        Raises:
            InputError: it is not four finite numbers, or they are of more than a million pixels.
        """
        if len(box) != 4 or not all(is_pixel(x) for x in box):
            raise InputError(
                f"{where}: the box is {list(box)!r}; accepted: four finite numbers of at most {MOST_PIXELS:,}"
            )
        left, top, right, bottom = (float(x) for x in box)  # type: ignore[arg-type]
        height, width = size
        if right - left < _THIN or bottom - top < _THIN:
            self.count("degenerate", where)
            return None
        inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
        if inside[2] - inside[0] < _THIN or inside[3] - inside[1] < _THIN:
            self.count("outside", where)
            return None
        if max(abs(a - b) for a, b in zip(inside, (left, top, right, bottom), strict=True)) > _THIN:
            self.count("clipped", where)
        return inside

    def count(self, kind: str, where: str) -> None:
        """One more of a kind."""
        self.counts[kind] += 1
        self.first.setdefault(kind, where)

    def notes(self, split: str) -> list[str]:
        """Returns a sentence for each kind of change, with the number of boxes and the first of them."""
        notes = [
            f"{split}: {self.counts[kind]:,} {'box' if self.counts[kind] == 1 else 'boxes'} {words} "
            f"(first: {self.first[kind]})"
            for kind, words in _KINDS.items()
            if self.counts[kind]
        ]
        if self.empty:
            notes.append(f"{split}: {plural(self.empty, 'image')} without boxes kept")
        return notes


def is_pixel(x: object) -> bool:
    """Whether it is a number that a coordinate can be: finite, and of at most a million pixels."""
    return isinstance(x, (int, float)) and not isinstance(x, bool) and abs(x) <= MOST_PIXELS  # which nan is not
