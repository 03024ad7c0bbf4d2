"""Files that a run writes: a line of metrics an epoch, the best and the last weights, a summary at the end."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import senet
from senet.errors import InputError
from senet.files import write_whole
from senet.measure import device_name
from senet.models.weights.files import write_tensors
from senet.options import to_plain
from senet.train.checkpoint import Progress
from senet.train.recipe import BaseRecipe
from senet.train.rundir import read_metrics, settings_of, write_json
from senet.train.task import Score, Split

__all__ = ["Results"]


class Results:
    """The results of a run in its folder.

    Args:
        out: the run's folder.
        recipe: what is trained.
        metric: what the score is called that decides which epoch is the best.
        train_set: the images trained on.
        val_set: the images it is judged by.
        images: the fingerprints of both, by which a run knows its images again, wherever they lie.
        epochs: how many epochs the run has behind it; metrics of later ones, which a crash has left, are dropped.
        write: whether this process writes; of several, one does.
    """

    def __init__(
        self,
        out: Path,
        recipe: BaseRecipe,
        train_set: Split,
        val_set: Split,
        *,
        metric: str,
        images: Mapping[str, str],
        epochs: int,
        write: bool,
    ) -> None:
        self.out, self.recipe, self.metric, self.write = out, recipe, metric, write
        self.train_set, self.val_set, self.images = train_set, val_set, dict(images)
        self.history = read_metrics(out)[:epochs]
        self._write_metrics()

    def _write_metrics(self) -> None:
        if self.write:
            lines = "".join(json.dumps(metrics) + "\n" for metrics in self.history)
            write_whole(self.out / "metrics.jsonl", lines.encode())

    def epoch(self, progress: Progress, score: Score, *, lr: float, weights: nn.Module) -> dict[str, Any]:
        """Writes down an epoch and its weights.

        Raises:
            InputError: the validation loss is not finite; nothing is written.
        """
        epoch = progress.epoch + 1
        if score.loss is not None and not math.isfinite(score.loss):
            raise InputError(
                f"the validation loss is {score.loss} after epoch {epoch}; stopped, the last checkpoint is kept. "
                "Try a smaller optim.lr or schedule.warmup"
            )
        metrics = {
            "epoch": epoch,
            "lr": lr,
            "train_loss": progress.loss_sum / progress.seen,
            **{name: number / progress.seen for name, number in progress.sums.items()},
            **score.metrics(),
            "seconds": progress.seconds,
            "images_per_second": progress.seen / progress.seconds,
        }
        if score.best > progress.best:
            progress.best, progress.best_epoch = score.best, epoch
            self._weights("best", weights, metrics)
        self._weights("model", weights, metrics)
        self.history.append(metrics)
        self._write_metrics()
        return metrics

    def _weights(self, name: str, weights: nn.Module, metrics: dict[str, Any]) -> None:
        if self.write:
            info = {"recipe": to_plain(self.recipe), **self.val_set.described(), "metrics": metrics}
            info["images"] = self.images
            write_tensors(self.out / f"{name}.safetensors", weights.state_dict(), info)

    def finish(self, progress: Progress, score: Score, weights: nn.Module, device: torch.device) -> dict[str, Any]:
        """Writes and returns the summary of the complete run."""
        recipe = self.recipe
        summary = {
            "run": str(self.out),
            "recipe": recipe.name,
            "model": recipe.model.name,
            "settings": settings_of(recipe),
            "parameters": sum(p.numel() for p in weights.parameters()),
            "dataset": recipe.data.root or recipe.data.source,
            "train_images": len(self.train_set),
            "val_images": score.images,
            "seed": recipe.run.seed,
            "epochs": recipe.schedule.epochs,
            "seconds": sum(metrics["seconds"] for metrics in self.history),
            **score.summary(),
            f"best_{self.metric}": progress.best,
            "best_epoch": progress.best_epoch,
            **self.val_set.described(),
            "images": self.images,
            "device": device_name(device),
            "versions": {"senet": senet.__version__, "torch": torch.__version__, "python": platform.python_version()},
        }
        if self.write:
            write_json(self.out / "summary.json", summary)
        return summary
