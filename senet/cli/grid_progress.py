"""A grid of trainings on the terminal: one bar over all epochs, and a line for each cell that is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from senet.study.grid import GridWatch

__all__ = ["ConsoleGrid"]


class ConsoleGrid(GridWatch):
    """Shows a grid on stderr; where that is no terminal, only the line a cell."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.bar = Progress(
            TextColumn("epochs"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("gone,"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self.cells, self.finished_cells = 0, 0

    def start(self, cells: Mapping[str, int], done: int) -> None:
        self.cells = len(cells)
        if done:
            self.console.print(f"{done} of {done + len(cells)} runs are done already")
        if cells:
            self.bar.start()
        self.task = self.bar.add_task("", total=sum(cells.values()), note="")

    def epoch(self, name: str, metrics: Mapping[str, Any]) -> None:
        self.bar.update(self.task, advance=1, note=f"{name} {metrics['val_top1']:.2f} %")

    def finished(self, name: str, line: Mapping[str, Any]) -> None:
        self.finished_cells += 1
        self.console.print(
            f"{self.finished_cells}/{self.cells} {name}: top-1 {line['top1']:.2f} %, {line['seconds']:.0f} s",
            soft_wrap=True,
        )

    def failed(self, name: str, why: str) -> None:
        self.finished_cells += 1
        self.console.print(f"{self.finished_cells}/{self.cells} {name}: {why}", soft_wrap=True, style="red")

    def close(self) -> None:
        self.bar.stop()
