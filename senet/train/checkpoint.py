"""Everything needed to go on with a run, in one file: weights, their average, optimizer, scaler, progress."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from senet.errors import InputError
from senet.models.weights.files import load_into, read_tensors, write_tensors
from senet.options import build

__all__ = ["Progress", "load_checkpoint", "save_checkpoint"]


@dataclass
class Progress:
    """Progress of a run.

    There are no states of random number generators: what is random in a step is a function of seed and step.
    """

    epoch: int = 0  # epochs done
    step: int = 0  # steps done in the epoch under way
    seconds: float = 0.0  # spent training in the epoch under way
    loss_sum: float = 0.0  # over the images seen in the epoch under way
    sums: dict[str, float] = field(default_factory=dict)  # of other numbers, by name, over the same images
    seen: int = 0
    best: float = -1.0  # score so far, percent
    best_epoch: int = 0
    val_losses: list[float] = field(default_factory=list)

    def next_epoch(self, val_loss: float | None) -> None:
        """An epoch is done; starts counting anew."""
        if val_loss is not None:
            self.val_losses.append(val_loss)
        self.epoch, self.step = self.epoch + 1, 0
        self.seconds, self.loss_sum, self.sums, self.seen = 0.0, 0.0, {}, 0


def save_checkpoint(
    path: Path,
    *,
    model: nn.Module,
    ema: nn.Module | None,
    optimizer: Optimizer,
    scaler: Any | None,
    progress: Progress,
    images: Mapping[str, str],
) -> None:
    """Writes the state of a run, whole or not at all; ``images`` are the fingerprints of its splits.

    Raises:
        InputError: a weight is not finite; the file that is there stays.
    """
    tensors = {f"model.{name}": t for name, t in model.state_dict().items()}
    broken = [name for name, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()]
    if broken:
        raise InputError(f"{len(broken)} tensors of the network are not finite (first: {broken[0]}); nothing was saved")
    if ema is not None:
        tensors |= {f"ema.{name}": t for name, t in ema.state_dict().items()}
    state = optimizer.state_dict()
    for index, values in state["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(v) for name, v in values.items() if v is not None}
    info = {
        "progress": dataclasses.asdict(progress),
        "images": dict(images),
        "param_groups": state["param_groups"],
        "scaler": None if scaler is None else scaler.state_dict(),
    }
    write_tensors(path, tensors, info)


def load_checkpoint(
    path: Path,
    *,
    model: nn.Module,
    ema: nn.Module | None,
    optimizer: Optimizer,
    scaler: Any | None,
    images: Mapping[str, str],
) -> Progress:
    """Restores what :func:`save_checkpoint` wrote, in place, and says how far the run was.

    Raises:
        InputError: it is no checkpoint, is cut off, or belongs to another network or to other images.
    """
    tensors, info = read_tensors(path)
    if not {"progress", "images", "param_groups", "scaler"} <= info.keys():
        raise InputError(f"{path} holds weights, but no state to resume from")
    changed = [split for split, fingerprint in images.items() if info["images"].get(split) != fingerprint]
    if changed:
        raise InputError(
            f"the {' and '.join(changed)} images are not those that the run in {path.parent} was started with; "
            "give the same ones with --data, or name another folder with --out"
        )
    load_into(model, _below("model.", tensors), what=str(path))
    if ema is not None:
        load_into(ema, _below("ema.", tensors), what=f"{path} (moving average)")
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _below("optimizer.", tensors).items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": info["param_groups"]})
    if scaler is not None:
        scaler.load_state_dict(info["scaler"])
    return build(Progress, info["progress"], what=f"the progress in {path}")


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
