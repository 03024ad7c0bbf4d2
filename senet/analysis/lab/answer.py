"""What may be said of the gates of a network, by rule, from the numbers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from senet.analysis.lab.leave_out import ALL, Change, LeaveOneOut
from senet.analysis.lab.result import Excitation
from senet.analysis.wording import count, signed

__all__ = ["answer", "change", "notes"]

_NAMED = 3  # blocks that a sentence names
_BY_CHANCE = 0.0228  # of a normal distribution, below minus two standard deviations


def answer(found: Excitation) -> str:
    """Which blocks have to follow the image, and which could be constants or go: one or two sentences.

    A block's gates have to follow the image where accuracy falls by more than two standard errors both with these
    gates at their mean and with these at 1; where it falls with neither or one of them, that constant does as well.
    """
    left_out = found.leave_out
    if _guesses(found):
        return "Nothing can be said of what the gates are good for: always naming one class would be right as often."
    seen = {site: {how for how in ("mean", "one") if _falls(left_out.of(site, how).top1)} for site in left_out.sites}
    needed = sorted((site for site in seen if len(seen[site]) == 2), key=lambda site: _least(left_out, site).points)
    idle = [site for site in seen if "one" not in seen[site]]
    constant = [site for site in seen if seen[site] == {"one"}]
    said = [_who(len(needed), len(seen), left_out.images)]
    if needed:
        said.append(
            f"Most of all {needed[0]}, where the better of the two constants, the mean gates or 1, changes top-1 by "
            f"{change(_least(left_out, needed[0]))} points."
        )
    if idle:
        said.append(f"{_named(idle)} could {_each(idle)}be left out, the gates at 1, without a loss that can be seen.")
    if constant:
        said.append(f"{_named(constant)} could {_each(constant)}do with constants, the mean gates.")
    return " ".join(said)


def notes(found: Excitation) -> list[str]:
    """What belongs to the answer: all blocks at once, gates that do not move, and what chance does."""
    left_out = found.leave_out
    said = []
    if len(left_out.sites) > 1:
        at = {how: change(left_out.of(ALL, how).top1) for how in ("mean", "one")}
        said.append(
            f"With the gates of all blocks at once at their mean, top-1 changes by {at['mean']} points; "
            f"with all at 1, by {at['one']}."
        )
    gates = sum(len(site.mean) for site in found.sites.values())
    still = sum(round(site.still * len(site.mean)) for site in found.sites.values())
    frozen = [name for name, site in found.sites.items() if site.still == 1]
    said.append(
        f"Of {count(gates)} gates {count(still)} hardly move"
        + (f", among them all those of {_named(frozen)}." if frozen else "; no block is constant.")
    )
    comparisons = 3 * len(left_out.sites)
    said.append(
        f"Accuracies are of {_which(left_out.images, found.images)}, {left_out.top1:.2f} % right with gates intact; ± "
        f"is one standard error. A loss is said to be seen beyond two of them; of {comparisons} comparisons "
        f"{_BY_CHANCE * comparisons:.1f} look like one by chance alone."
    )
    return said


def _which(images: int, of: int) -> str:
    return f"all {count(images)} images" if images == of else f"{count(images)} images drawn from {count(of)}"


def change(paired: Change) -> str:
    """``−5.00 ± 0.64``: points, and their standard error."""
    return f"{signed(paired.points)} ± {paired.error:.2f}"


def _least(left_out: LeaveOneOut, site: str) -> Change:
    """With the better of the two constants."""
    return max((left_out.of(site, how).top1 for how in ("mean", "one")), key=lambda paired: paired.points)


def _falls(paired: Change) -> bool:
    return paired.shown and paired.points < 0


def _guesses(found: Excitation) -> bool:
    """Whether the network is right no more often, within two standard errors, than by naming the commonest class."""
    images = next(iter(found.sites.values())).count
    share = float(images.max() / images.sum())
    return found.top1 / 100 <= share + 2 * math.sqrt(share * (1 - share) / found.images)


def _who(needed: int, blocks: int, images: int) -> str:
    if not needed:
        who = "The only block does not have" if blocks == 1 else f"None of {blocks} blocks has"
        return f"{who} to follow the image, as far as {count(images)} images can tell: a constant does as well."
    if blocks == 1:
        who = "The only block has"
    else:
        share = f"All {blocks}" if needed == blocks else f"{needed} of {blocks}"
        who = f"{share} blocks {'has' if needed == 1 else 'have'}"
    return f"{who} to follow the image: no constant does as well."


def _each(sites: Sequence[str]) -> str:
    return "each alone " if len(sites) > 1 else ""


def _named(sites: Sequence[str]) -> str:
    first, rest = list(sites[:_NAMED]), len(sites) - _NAMED
    if rest > 0:
        return f"{', '.join(first)} and {rest} more"
    return " and ".join([", ".join(first[:-1]), first[-1]] if len(first) > 1 else first)
