"""What is kept of traced modules: no more values than there is room for, and nothing that anybody misses."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

import senet
from senet.surgery.kept import Kept
from senet.surgery.trace import Traced, trace


def traced(megabytes: int) -> Traced:
    module = nn.Identity()
    graph = trace(module)
    node = next(iter(graph.nodes))
    return Traced(module, graph, module, (), {node: (torch.empty(megabytes * 2**18), 3)})


def test_the_oldest_values_go_first_and_the_latest_stay(monkeypatch):
    monkeypatch.setattr(Kept, "limit", 5 * 2**20)
    first, nothing, second, third = (nn.Identity() for _ in range(4))
    kept = Kept()
    kept[first] = traced(2)
    kept[nothing] = None
    kept[second] = traced(3)
    assert list(kept) == [first, nothing, second]
    kept[third] = traced(2)
    assert list(kept) == [nothing, second, third]
    kept[first] = traced(9)
    assert list(kept) == [nothing, first]


@pytest.mark.parametrize(("limit", "stays"), [(34, True), (33, False)])
def test_bytes_are_those_of_all_values(monkeypatch, limit, stays):
    monkeypatch.setattr(Kept, "limit", limit)
    graph = fx.Graph()
    a, b = graph.placeholder("a"), graph.placeholder("b")
    values = {a: torch.zeros(3, dtype=torch.float64), b: [torch.zeros(5, dtype=torch.float16), None, 1]}
    kept, first = Kept(), nn.Identity()
    kept[first] = Traced(first, graph, first, (), values)
    kept[nn.Identity()] = traced(0)
    assert (first in kept) == stays


@pytest.mark.parametrize("name", ["cifar_seresnet8", "mobilenetv3_small_100"])
def test_without_room_the_same_is_found(monkeypatch, name):
    def found() -> list[list[tuple[str, str]]]:
        model = senet.create_model(name).eval()
        folded = senet.fold(model)
        return [
            its for each in (folded, senet.fuse(model)) for its in (senet.report(each).taken, senet.report(each).left)
        ]

    with_room = found()
    monkeypatch.setattr(Kept, "limit", 0)
    assert found() == with_room
    assert with_room[0]
    assert with_room[2]
