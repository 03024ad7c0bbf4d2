"""Transfer of data to the device, and room for data that stays there."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["has_room", "send"]

_SHARE = 0.25  # of the free memory: the rest is the network's


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; from the CPU to CUDA without waiting for it to arrive."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def has_room(device: torch.device, size: int) -> bool:
    """Whether so many bytes may lie there for good: on CUDA, up to a quarter of the memory that is free; else never.

    Free is also what PyTorch holds and does not use, which after an epoch of training may be nearly all.
    """
    if device.type != "cuda":
        return False
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return size <= _SHARE * (torch.cuda.mem_get_info(device)[0] + unused)
