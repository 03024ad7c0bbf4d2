"""A training on the terminal: a bar with rate and remaining time, and a line an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from senet.train.watch import Watch

__all__ = ["ConsoleWatch", "counting", "telling"]


class ConsoleWatch(Watch):
    """Shows a training on stderr; where that is no terminal, only the line an epoch."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task: TaskID | None = None
        self.images_per_step = 0
        self.title, self.epochs, self.steps = "", 0, 0

    def loading(self, done: int, total: int) -> None:
        if self.task is None:
            self.bar.start()
            self.task = self.bar.add_task("decoding images", total=total, note="")
        self.bar.update(self.task, completed=done, total=total)

    def note(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False)

    def start(self, title: str, *, epochs: int, steps: int, done: int) -> None:
        if self.task is not None:
            self.bar.remove_task(self.task)
        self.title, self.epochs, self.steps = title, epochs, steps
        if done:
            self.console.print(f"{title}: going on after {done} of {epochs * steps} steps")
        self.bar.start()
        self.task = self.bar.add_task(self._where(done), total=epochs * steps, completed=done, note="")

    def step(self, images: int) -> None:
        self.images_per_step = images
        assert self.task is not None
        self.bar.advance(self.task)

    def loss(self, mean: float) -> None:
        assert self.task is not None
        task = self.bar.tasks[self.bar.task_ids.index(self.task)]
        rate = f"{task.speed * self.images_per_step:,.0f} images/s" if task.speed else ""
        self.bar.update(self.task, description=self._where(int(task.completed)), note=f"loss {mean:.3f}  {rate}")

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        self.console.print(
            f"{self.title} {metrics['epoch']}/{self.epochs}: loss {metrics['train_loss']:.3f}, {_scores(metrics)}, "
            f"{metrics['images_per_second']:,.0f} images/s",
            soft_wrap=True,
        )

    def close(self) -> None:
        self.bar.stop()
        if self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None

    def _where(self, done: int) -> str:
        return f"{self.title} epoch {min(done // max(self.steps, 1) + 1, self.epochs)}/{self.epochs}"


def _scores(metrics: Mapping[str, Any]) -> str:
    if "val_ap" in metrics:
        return ", ".join(
            f"{words} {metrics[name] or 0:.2f} % val"
            for name, words in (("val_ap", "AP"), ("val_ap50", "AP50"), ("val_mask_ap", "mask AP"))
            if name in metrics
        )
    return f"top-1 {metrics['train_top1']:.2f} % train, {metrics['val_top1']:.2f} % val"


@contextmanager
def counting(total: int, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr while something is done so many times; gives the function to tell it how many are done."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, _: bar.update(task, completed=done)


@contextmanager
def telling() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on stderr that says what is being done; gives the function to tell it that, and how much of how much."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("")
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
