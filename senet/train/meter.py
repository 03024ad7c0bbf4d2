"""The training loss as it goes, read now and then: reading each step would make a GPU wait for each step."""

from __future__ import annotations

import math

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
        self._correct: list[Tensor] = []
        self._steps: list[int] = []
        self._images: list[int] = []

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Takes note of a batch, without waiting for it.

        Args:
            loss: of the batch.
            logits: ``(n, classes)``.
            labels: ``(n,)`` int64; or ``(n, classes)``, the share of each class, of which the largest counts.
        """
        classes = labels if labels.ndim == 1 else labels.argmax(1)
        self._losses.append(loss.detach())
        self._correct.append((logits.detach().argmax(1) == classes).sum())
        self._steps.append(self.progress.step)
        self._images.append(len(labels) * self.accelerator.num_processes)

    def read(self) -> None:
        """Adds what was collected to the progress.

        Raises:
            InputError: a loss is not finite; says at which step.
        """
        if not self._losses:
            return
        losses = self.accelerator.reduce(torch.stack(self._losses).float(), "mean").tolist()
        correct = self.accelerator.reduce(torch.stack(self._correct), "sum").tolist()
        for loss, right, step, images in zip(losses, correct, self._steps, self._images, strict=True):
            if not math.isfinite(loss):
                raise InputError(
                    f"the loss is {loss} at step {self.first_step + step + 1} (epoch {self.progress.epoch + 1}, step "
                    f"{step + 1} of it); stopped, the last checkpoint is kept. Try a smaller optim.lr, "
                    "schedule.warmup or optim.clip_grad_norm"
                )
            self.progress.loss_sum += loss * images
            self.progress.correct += right
            self.progress.seen += images
        self._losses, self._correct, self._steps, self._images = [], [], [], []
