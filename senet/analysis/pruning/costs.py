"""The cost of each gate of a network: parameters and bytes counted, time measured where the gate is."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from senet.analysis.pruning.steps import Saving
from senet.analysis.traffic import Row, rows_of
from senet.measure import in_turn
from senet.surgery.gating.freeze import FrozenGate

__all__ = ["ROUNDS", "Cost", "cost_of", "savings_of"]

ROUNDS = 20


@dataclass(frozen=True)
class Cost:
    """The cost of a network that runs operator by operator.

    Attributes:
        parameters: of it.
        rows: bytes moved for a batch, by module.
    """

    parameters: int
    rows: tuple[Row, ...]

    def bytes(self, place: str = "") -> int:
        """The bytes that a module moves with all it holds."""
        inside = (r.moved for r in self.rows if not place or f"{r.module}.".startswith(f"{place}."))
        return sum(moved.read + moved.written for moved in inside)


def cost_of(model: nn.Module, images: Tensor) -> Cost:
    """Runs a network once, and counts."""
    rows = rows_of(lambda: model(images), model, lambda *_: False)
    return Cost(sum(p.numel() for p in model.parameters()), rows)


def savings_of(model: nn.Module, without: nn.Module, gates: Sequence[FrozenGate], images: Tensor) -> dict[str, Saving]:
    """Returns the saving that each gate of a network makes where it is left out.

    Bytes and time are those of the modules in whose forwards the maps are gated, with their gates less without, on the
    maps that they really get. Where one module gates several maps, each has an equal share.

    Args:
        model: in evaluation mode.
        without: a copy whose gates are all constants, in evaluation mode.
        gates: what became of them.
        images: a batch.
    """
    sharing = Counter(gate.place for gate in gates)
    seconds = _seconds(model, without, sharing, images)
    mine, its = cost_of(model, images), cost_of(without, images)
    return {
        gate.site: Saving(
            gate.parameters,
            (mine.bytes(gate.place) - its.bytes(gate.place)) // sharing[gate.place],
            seconds[gate.place] / sharing[gate.place],
        )
        for gate in gates
    }


def _seconds(model: nn.Module, without: nn.Module, places: Iterable[str], images: Tensor) -> Mapping[str, float]:
    """By how much the median time of each module falls without its gates, on what it is called with."""
    fallen: dict[str, float] = {}

    def measure(place: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        given = tuple(a.clone() if isinstance(a, Tensor) else a for a in args)  # modules may write into their inputs
        other = without.get_submodule(place)
        calls = {"with": lambda: module.forward(*given), "without": lambda: other.forward(*given)}
        times = in_turn(calls, rounds=ROUNDS, device=images.device)
        fallen[place] = statistics.median(times["with"]) - statistics.median(times["without"])

    hooks = [
        model.get_submodule(place).register_forward_pre_hook(
            lambda module, args, place=place: measure(place, module, args)
        )
        for place in places
    ]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return fallen
