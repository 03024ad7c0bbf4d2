"""Those who watch a training: they are told what happens and change nothing."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from senet.errors import InputError

__all__ = ["Audience", "TensorBoard", "Watch", "require_tensorboard"]


class Watch:
    """Watches without a word; the base of those who speak."""

    def loading(self, done: int, total: int) -> None:
        """Images are being decoded into memory: ``done`` of ``total``."""

    def note(self, text: str) -> None:
        """Something of the data was changed or left out."""

    def start(self, title: str, *, epochs: int, steps: int, done: int) -> None:
        """The training starts: ``epochs`` of ``steps`` steps each, of which ``done`` steps are behind it."""

    def step(self, images: int) -> None:
        """A step on so many images is done."""

    def loss(self, mean: float) -> None:
        """The mean training loss of the epoch so far is known."""

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        """An epoch is done, evaluated and saved."""

    def close(self) -> None:
        """The training is over, or has failed."""


class Audience(Watch):
    """Passes on what happens to all who watch."""

    def __init__(self, watchers: Sequence[Watch]) -> None:
        self.watchers = list(watchers)

    def add(self, watch: Watch) -> None:
        """One more."""
        self.watchers.append(watch)

    def loading(self, done: int, total: int) -> None:
        for watch in self.watchers:
            watch.loading(done, total)

    def note(self, text: str) -> None:
        for watch in self.watchers:
            watch.note(text)

    def start(self, title: str, *, epochs: int, steps: int, done: int) -> None:
        for watch in self.watchers:
            watch.start(title, epochs=epochs, steps=steps, done=done)

    def step(self, images: int) -> None:
        for watch in self.watchers:
            watch.step(images)

    def loss(self, mean: float) -> None:
        for watch in self.watchers:
            watch.loss(mean)

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        for watch in self.watchers:
            watch.epoch(metrics)

    def close(self) -> None:
        for watch in self.watchers:
            watch.close()


def require_tensorboard() -> None:
    """Refuses at once what would otherwise fail after the images are read.

    Raises:
        InputError: the package is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise InputError("run.tensorboard needs the package tensorboard; install it by pip install tensorboard")


class TensorBoard(Watch):
    """Writes the metrics of each epoch as TensorBoard scalars below ``folder``."""

    def __init__(self, folder: Path, *, first_epoch: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=first_epoch + 1)

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        for name, value in metrics.items():
            if name != "epoch" and value is not None:
                self.writer.add_scalar(name, value, metrics["epoch"])
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
