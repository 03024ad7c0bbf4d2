"""Conclusions about the gates of a network, drawn by rule from the numbers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

from senet.analysis.lab.leave_out import ALL, Change, How, LeaveOneOut
from senet.analysis.lab.result import Excitation
from senet.analysis.wording import count, signed

__all__ = ["answer", "change", "notes"]

_NAMED = 3  # blocks that a sentence names
_BY_CHANCE = 0.0228  # of a normal distribution, below minus two standard deviations


def answer(found: Excitation) -> str:
    """Names the blocks that have to follow the image, and those that could be constants or go: one or two sentences.

    A block's gates have to follow the image where accuracy is seen to fall (:attr:`Change.shown`) with these gates at
    their mean, with these at 1 and with those of another image; where it falls with neither constant or one of them,
    the other does as well.
    """
    left_out = found.leave_out
    if _guesses(found):
        return "Nothing can be said of what the gates are good for: always naming one class would be right as often."
    seen = {site: {how for how in get_args(How) if _falls(left_out.of(site, how).top1)} for site in left_out.sites}
    moving = [site for site in seen if {"mean", "one"} <= seen[site]]
    needed = sorted((s for s in moving if "shuffled" in seen[s]), key=lambda site: _least(left_out, site).points)
    swapped = [site for site in moving if "shuffled" not in seen[site]]
    idle = [site for site in seen if "one" not in seen[site]]
    constant = [site for site in seen if "one" in seen[site] and "mean" not in seen[site]]
    said = [_who(found, len(needed), "a constant or another image's gates do" if swapped else "a constant does")]
    if needed:
        said.append(
            f"Most of all {needed[0]}, where the better of the two constants, the mean gates or 1, changes top-1 by "
            f"{change(_least(left_out, needed[0]))} points."
        )
    if idle:
        said.append(f"{_named(idle)} could {_each(idle)}be left out, the gates at 1, without a loss that can be seen.")
    if constant:
        said.append(f"{_named(constant)} could {_each(constant)}do with constants, the mean gates.")
    if swapped:
        said.append(f"For {_named(swapped)} no constant does as well, but another image's gates do.")
    return " ".join(said)


def notes(found: Excitation) -> list[str]:
    """Returns notes on the answer: all blocks at once, gates that do not move, and the effect of chance."""
    left_out = found.leave_out
    said = []
    if len(left_out.sites) > 1:
        at = {how: change(left_out.of(ALL, how).top1) for how in ("mean", "one")}
        said.append(
            f"With the gates of {found.called(ALL)} at once at their mean, top-1 changes by {at['mean']} points; "
            f"with all at 1, by {at['one']}."
        )
    known = {name: site for name, site in found.sites.items() if name not in found.planes}
    gates = sum(len(site.mean) for site in known.values())
    still = sum(round(site.still * len(site.mean)) for site in known.values())
    frozen = [name for name, site in known.items() if site.still == 1]
    if known:
        said.append(
            f"Of {count(gates)} gates {count(still)} hardly move"
            + (f", among them all those of {_named(frozen)}." if frozen else "; no block is constant.")
        )
    if found.planes:
        said.append(
            f"Gates of {_named(found.planes)} differ over positions: what is said of how they move is of their mean "
            "over positions."
        )
    comparisons = 3 * len(left_out.sites)
    said.append(
        f"Accuracies are of {_which(left_out.images, found.images)}, {left_out.top1:.2f} % right with gates intact; ± "
        f"is one standard error. A loss is said to be seen beyond two standard deviations of what chance does to the "
        f"images that changed (McNemar's test); of {comparisons} comparisons {_BY_CHANCE * comparisons:.1f} look like "
        f"one by chance alone."
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


def _who(found: Excitation, needed: int, instead: str) -> str:
    blocks, alone = len(found.sites), found.blocks == 1
    one = "The only block" if alone else f"The block looked at (1 of {found.blocks})"
    if not needed:
        who = f"None of {blocks} {found.looked_at} has"
        who = f"{one} does not have" if blocks == 1 else who
        tried = count(found.leave_out.images)
        return f"{who} to follow the image, as far as {tried} images can tell: {instead} as well."
    share = f"All {blocks}" if needed == blocks else f"{needed} of {blocks}"
    who = f"{one} has" if blocks == 1 else f"{share} {found.looked_at} {'has' if needed == 1 else 'have'}"
    return f"{who} to follow the image: neither a constant nor another image's gates do as well."


def _each(sites: Sequence[str]) -> str:
    return "each alone " if len(sites) > 1 else ""


def _named(sites: Sequence[str]) -> str:
    first, rest = list(sites[:_NAMED]), len(sites) - _NAMED
    if rest > 0:
        return f"{', '.join(first)} and {rest} more"
    return " and ".join([", ".join(first[:-1]), first[-1]] if len(first) > 1 else first)
