"""The training loss as it goes, read now and then: reading each step would make a GPU wait for each step."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor

from senet.errors import InputError
from senet.train.checkpoint import Progress

__all__ = ["Meter"]


class Meter:
    """Collects losses on the device and, when read, adds them to the run's progress.

    Over several processes the losses are averaged and the counts added up, so that all know the same, and all stop
    where one loss is not finite.
    """

    def __init__(self, accelerator: Accelerator, progress: Progress, *, first_step: int) -> None:
        self.accelerator = accelerator
        self.progress = progress
        self.first_step = first_step  # steps of the whole run before this epoch
        self._losses: list[Tensor] = []
        self._numbers: list[Mapping[str, Tensor]] = []
        self._steps: list[int] = []
        self._images: list[int] = []

    def add(self, loss: Tensor, numbers: Mapping[str, Tensor], images: int) -> None:
        """Takes note of a batch, without waiting for it.

        Args:
            loss: of the batch, a mean over its images.
            numbers: others by name, each a sum over its images; the same names for every batch.
            images: how many it has.
        """
        self._losses.append(loss.detach())
        self._numbers.append({name: number.detach() for name, number in numbers.items()})
        self._steps.append(self.progress.step)
        self._images.append(images * self.accelerator.num_processes)

    def read(self) -> None:
        """Adds what was collected to the progress.

        Raises:
            InputError: a loss is not finite; says at which step.
        """
        if not self._losses:
            return
        losses = self.accelerator.reduce(torch.stack(self._losses).float(), "mean").tolist()
        sums = {
            name: self.accelerator.reduce(torch.stack([numbers[name] for numbers in self._numbers]), "sum").tolist()
            for name in self._numbers[0]
        }
        for index, (loss, step, images) in enumerate(zip(losses, self._steps, self._images, strict=True)):
            if not math.isfinite(loss):
                raise InputError(
                    f"the loss is {loss} at step {self.first_step + step + 1} (epoch {self.progress.epoch + 1}, step "
                    f"{step + 1} of it); stopped, the last checkpoint is kept. Try a smaller optim.lr, "
                    "schedule.warmup or optim.clip_grad_norm"
                )
            self.progress.loss_sum += loss * images
            for name, numbers in sums.items():
                self.progress.sums[name] = self.progress.sums.get(name, 0) + numbers[index]
            self.progress.seen += images
        self._losses, self._numbers, self._steps, self._images = [], [], [], []
