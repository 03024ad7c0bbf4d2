"""Places for blocks at the ends of a network's stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from torch import Tensor, fx

from senet.surgery.attaching.graphs import Part
from senet.surgery.attaching.structure import Found
from senet.surgery.graph.ops import is_map, reaching

__all__ = ["stage_ends"]


@dataclass
class _Stage:
    """Part of a network at one resolution.

    Attributes:
        size: height and width of its maps.
        branched: whether the map goes more than one way.
        weighted: whether there are layers in it.
        ends: the modules that gave each map since it branched, from the innermost outwards.
    """

    size: tuple[int, ...]
    branched: bool = False
    weighted: bool = False
    ends: list[list[str]] = field(default_factory=list)


def stage_ends(parts: Iterable[Part]) -> Iterator[Found]:
    """The module that gives the last map of each stage: of each resolution at which there are layers.

    Looked at are maps that all of the computation goes through and that some module gives. Of the modules that give
    them after the map went more than one way, the last of the outermost ones ends the stage: units further inside may
    be the beginning of the next. No stages are the stem, which is what comes before the map first goes more than one
    way, if it ever does, and maps of one pixel, which are the head's.
    """
    stages = _stages(part for part in parts if not part.inside)
    stem = next((i for i, stage in enumerate(stages) if stage.branched), 0)
    earlier: list[str] = []
    for index, stage in enumerate(stages):
        alone = [_outermost(names, earlier) for names in stage.ends]
        end = min(reversed(alone), key=lambda path: path.count("."))
        earlier.append(end)
        if index >= stem and stage.weighted and max(stage.size) > 1:
            yield Found(end)


def _outermost(names: list[str], earlier: Iterable[str]) -> str:
    """The largest of modules, each within the next, that holds none of the earlier ones; else the smallest."""
    return [names[0], *(name for name in names if not any(end.startswith(f"{name}.") for end in earlier))][-1]


def _stages(parts: Iterable[Part]) -> list[_Stage]:
    stages: list[_Stage] = []
    for part in parts:
        before: list[fx.Node] = []
        branched = False
        for node, between in _spine(part):
            before += between
            branched |= bool(between)
            names, same = part.output_of(node), part.identity_of(node)
            if not names or not is_map(part.values[node]) or (same is not None and part.output_of(same)):
                before.append(node)
                continue
            size = tuple(part.values[node].shape[2:])
            if not stages or stages[-1].size != size:
                stages.append(_Stage(size))
            stage = stages[-1]
            if branched and not stage.branched:
                stage.branched, stage.ends = True, []
            stage.weighted |= any(map(part.layers, (*before, node)))
            stage.ends.append(names)
            before, branched = [], False
    return stages


def _spine(part: Part) -> Iterator[tuple[fx.Node, list[fx.Node]]]:
    """The nodes that every way from input to output goes through, each with those on ways between it and the last."""
    reached = part.computed & reaching(part.nodes[-1], forward=False)
    nodes = [n for n in part.nodes if n in reached and n.op != "output" and isinstance(part.values[n], Tensor)]
    index = {node: i for i, node in enumerate(nodes)}
    last_use = 0
    between: list[fx.Node] = []
    for i, node in enumerate(nodes):
        if last_use > i:
            between.append(node)
        elif node.op != "placeholder":
            yield node, between
            between = []
        last_use = max([last_use, *(index[user] for user in node.users if user in index)])
