"""Chance, as a pure function of what it is for.

Philox is counter-based (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a key and a
counter name a stream, with no state to carry along. So what happens to an image in an epoch depends on the
seed, the epoch and the image alone: not on workers, on processes, on where a run was resumed, nor on any
global generator, and none is disturbed.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

__all__ = ["stream"]

# Each purpose counts in a range of its own, so that two purposes never share a number.
_PURPOSES = {"subset": 0, "order": 1, "batch": 2, "image": 3, "layers": 4, "mixup": 5}


def stream(
    purpose: Literal["subset", "order", "batch", "image", "layers", "mixup"],
    *,
    seed: int = 0,
    epoch: int = 0,
    index: int = 0,
) -> np.random.Generator:
    """A generator that starts at the same place whenever it is asked for.

    Args:
        purpose: ``"subset"`` chooses images once, ``"order"`` shuffles an epoch, ``"batch"`` crops, flips and
            cuts holes in whole batches, ``"image"`` crops, rotates and jitters single images as they are read,
            ``"layers"`` is for dropout and its kin, ``"mixup"`` chooses shares and partners of an epoch.
        seed: of the run.
        epoch: counted from 0.
        index: of the image in its split, or of the step.
    """
    philox = np.random.Philox(key=np.array([seed, epoch], np.uint64), counter=[0, index, 0, _PURPOSES[purpose]])
    return np.random.Generator(philox)
