"""What a step frees is kept for the next one, on a CPU."""

from __future__ import annotations

import torch

__all__ = ["keep_freed_memory"]


def keep_freed_memory() -> None:
    """Lets this process keep, for its next step, memory that a step frees; of small networks' steps 10 % and more.

    glibc hands freed memory back to the system where the end of its heap is free for more than a threshold, 128 KiB at
    first, and the next step waits for the system to clear the same pages again. It raises the threshold to twice the
    size of a block that was mapped on its own when such a block is freed, for blocks up to 32 MiB: so the largest is
    taken and freed. It is not written to, and costs nothing; other allocators do not care. A process keeps 64 MiB more
    at most. Maps above 32 MiB are mapped and cleared anew all the same.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)
