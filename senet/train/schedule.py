"""The learning rate as a pure function of progress, so that a resumed run has nothing to restore."""

from __future__ import annotations

import math
from collections.abc import Sequence

from senet.train.recipe import Schedule

__all__ = ["lr_factor", "plateau_drops"]


def lr_factor(spec: Schedule, done: float, val_losses: Sequence[float] = ()) -> float:
    """The factor on the recipe's learning rate.

    Args:
        spec: the schedule.
        done: share of the training that is done, from 0 to 1.
        val_losses: validation losses of the epochs done; only ``"plateau"`` looks at them.

    Returns:
        A factor, 1.0 for the full rate. Warm-up multiplies it, linearly from ``warmup_factor`` to 1.
    """
    warmup = 1.0
    if done < spec.warmup:
        warmup = spec.warmup_factor + (1 - spec.warmup_factor) * done / spec.warmup
    if spec.name == "step":
        return warmup * spec.gamma ** sum(done >= milestone for milestone in spec.milestones)
    if spec.name == "cosine":
        falling = max(done - spec.warmup, 0.0) / (1 - spec.warmup)
        return warmup * (spec.final_factor + (1 - spec.final_factor) * (1 + math.cos(math.pi * falling)) / 2)
    if spec.name == "plateau":
        return warmup * spec.gamma ** plateau_drops(val_losses, spec.patience)
    return warmup


def plateau_drops(val_losses: Sequence[float], patience: int) -> int:
    """Counts the drops of the rate: one after more than ``patience`` epochs in a row without a better loss.

    The count of epochs starts anew after a drop, as in ``torch.optim.lr_scheduler.ReduceLROnPlateau`` with
    ``threshold=0``: ``patience`` epochs are forgiven, the next one drops the rate.
    """
    best, bad, drops = math.inf, 0, 0
    for loss in val_losses:
        if loss < best:
            best, bad = loss, 0
        else:
            bad += 1
        if bad > patience:
            drops, bad = drops + 1, 0
    return drops
