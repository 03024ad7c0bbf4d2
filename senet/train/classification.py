"""Classification: one label an image, cross-entropy, accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from senet.train.data import ImageSet, Loader, load_data, make_loader
from senet.train.evaluate import Evaluation, evaluate
from senet.train.recipe import Recipe
from senet.train.rundir import build_model
from senet.train.start import initial_model
from senet.train.task import Task

__all__ = ["Classification"]


class Classification(Task[Recipe, ImageSet]):
    """Image classification: one class for each image."""

    metric = "top1"

    def check(self, recipe: Recipe) -> None:
        with torch.device("meta"):
            build_model(recipe.model, recipe.data.channels, 2)

    def load(self, recipe: Recipe, *, progress: Callable[[int, int], None]) -> tuple[ImageSet, ImageSet]:
        return load_data(recipe.data, progress=progress)

    def loader(
        self, split: ImageSet, recipe: Recipe, *, train: bool, device: torch.device, rank: int, world: int
    ) -> Loader:
        return make_loader(
            split,
            recipe.data,
            train=train,
            seed=recipe.run.seed,
            device=device,
            rank=rank,
            world=world,
            accumulate=recipe.run.accumulate if train else 1,
            channels_last=recipe.run.channels_last,
        )

    def initial_model(self, recipe: Recipe, split: ImageSet) -> nn.Module:
        return initial_model(recipe.model, recipe.data.channels, len(split.classes), seed=recipe.run.seed)

    def loss(
        self, net: nn.Module, inputs: Tensor, targets: Tensor, recipe: Recipe
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Cross-entropy, and percent whose class is hit: of a mixture, the class with the larger share."""
        logits = net(inputs)
        loss = F.cross_entropy(logits, targets, label_smoothing=recipe.loss.label_smoothing)
        classes = targets if targets.ndim == 1 else targets.argmax(1)
        return loss, {"train_top1": 100 * (logits.detach().argmax(1) == classes).sum()}

    def evaluate(
        self, model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], split: ImageSet, device: torch.device
    ) -> Evaluation:
        return evaluate(model, batches, len(split.classes), device)
