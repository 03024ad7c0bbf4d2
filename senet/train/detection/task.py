"""Detection as the loop sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from senet.errors import InputError
from senet.models.detection.create import build_body, resolved
from senet.models.detection.network import Detector
from senet.train.detection.box_set import BoxSet
from senet.train.detection.evaluate import DetectionScore, evaluate
from senet.train.detection.loader import BoxLoader
from senet.train.detection.recipe import DetectionRecipe
from senet.train.detection.require import require_evaluator
from senet.train.detection.sources import load_boxes
from senet.train.detection.start import initial_detector
from senet.train.task import Task

__all__ = ["Detection"]


class Detection(Task[DetectionRecipe, BoxSet]):
    """Boxes around the objects of an image, and their classes."""

    metric = "ap"

    def check(self, recipe: DetectionRecipe) -> None:
        require_evaluator()
        resolved(recipe.detector, fresh=recipe.weights is None)
        with torch.device("meta"):
            build_body(recipe.model.name, recipe.model.options)

    def load(
        self,
        recipe: DetectionRecipe,
        *,
        progress: Callable[[int, int], None],  # noqa: ARG002 (nothing is decoded before it is asked for)
    ) -> tuple[BoxSet, BoxSet]:
        train, val = load_boxes(recipe.data, masks=recipe.detector.masks)
        for split in (train, val):
            if recipe.detector.masks and split.segments is None:
                raise InputError(
                    f"detector.masks is true, but the {split.split} images have no masks; leave it out, or give data "
                    "with segmentations in COCO's layout"
                )
            if lacking := (split.segments or ()).count(None):
                raise InputError(
                    f"detector.masks is true, but of the {len(split.boxes):,} objects of the {split.split} images "
                    f"{lacking:,} have no segmentation; give each one, or leave it out"
                )
        return train, val

    def loader(
        self, split: BoxSet, recipe: DetectionRecipe, *, train: bool, device: torch.device, rank: int, world: int
    ) -> BoxLoader:
        return BoxLoader(split, recipe, train=train, device=device, rank=rank, world=world)

    def initial_model(self, recipe: DetectionRecipe, split: BoxSet) -> nn.Module:
        return initial_detector(recipe, len(split.classes))

    def loss(
        self,
        net: nn.Module,
        inputs: list[Tensor],
        targets: list[dict[str, Tensor]],
        recipe: DetectionRecipe,  # noqa: ARG002 (torchvision's losses have no options)
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The sum of the losses, and each of them."""
        losses: dict[str, Tensor] = net(inputs, targets)
        parts = {f"train_{name}": len(targets) * loss.detach() for name, loss in losses.items()}
        return torch.stack(list(losses.values())).sum(), parts

    def evaluate(
        self,
        model: nn.Module,
        batches: Iterator[tuple[list[Tensor], list[dict[str, Tensor]]]],
        split: BoxSet,
        device: torch.device,  # noqa: ARG002 (the batches lie where the model does)
    ) -> DetectionScore:
        masks = isinstance(model, Detector) and model.config.masks
        return evaluate(model, batches, split.classes, split.category_ids, masks=masks)
