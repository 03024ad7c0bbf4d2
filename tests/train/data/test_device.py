from __future__ import annotations

import torch

from senet.train.data.device import has_room, send

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_a_quarter_of_what_is_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4000, 9000))
    assert has_room(CUDA, 1000)
    assert not has_room(CUDA, 1001)


def test_nothing_is_kept_elsewhere_or_copied_to_where_it_is():
    assert not has_room(CPU, 0)
    tensor = torch.arange(3)
    assert send(tensor, CPU) is tensor
    assert send(tensor, torch.device("meta")).is_meta
