from __future__ import annotations

import torch

from senet.train.data.device import has_room, send

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_a_quarter_of_what_is_free(monkeypatch):
    for name, found in (("mem_get_info", (3000, 9000)), ("memory_reserved", 5000), ("memory_allocated", 4000)):
        monkeypatch.setattr(torch.cuda, name, lambda device, found=found: found)
    assert has_room(CUDA, 1000)  # of 3000 that nobody holds, and of 1000 that PyTorch holds for nothing
    assert not has_room(CUDA, 1001)


def test_nothing_is_kept_elsewhere_or_copied_to_where_it_is():
    assert not has_room(CPU, 0)
    tensor = torch.arange(3)
    assert send(tensor, CPU) is tensor
    assert send(tensor, torch.device("meta")).is_meta
