"""Images with boxes in batches, each a pure function of the seed, the epoch and its number."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from senet.errors import InputError
from senet.train.data.device import send
from senet.train.data.images import read_image
from senet.train.data.randomness import stream
from senet.train.detection.augment import change
from senet.train.detection.box_set import BoxSet
from senet.train.detection.masks import decode_masks
from senet.train.detection.recipe import DetectionRecipe

__all__ = ["BoxLoader", "grouped"]

_START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"

Example = tuple[Tensor, dict[str, Tensor]]


def grouped(order: np.ndarray, upright: np.ndarray, batch: int) -> np.ndarray:
    """An order of images cut into batches of one orientation each, as far as it goes.

    Images of a batch are padded to one size, and what is padded is computed for nothing; SE's squeeze would also count
    its zeros. What is left of both orientations at the end is mixed.

    Args:
        order: (N,), a permutation.
        upright: (N,) bool by image: higher than wide.
        batch: images in one.

    Returns:
        (N // batch, batch): whichever batch is full first is first.
    """
    waiting: tuple[list[int], list[int]] = ([], [])
    batches: list[list[int]] = []
    for index in order.tolist():
        group = waiting[int(upright[index])]
        group.append(index)
        if len(group) == batch:
            batches.append(group.copy())
            group.clear()
    left = waiting[0] + waiting[1]
    batches += [left[at : at + batch] for at in range(0, len(left) - batch + 1, batch)]
    return np.array(batches, np.int64).reshape(-1, batch)


class BoxLoader:
    """Hands out one split in batches, to one process of several.

    In training, an epoch is a random order of all images, in global batches of one orientation (:func:`grouped`); an
    incomplete last one is dropped. Each process takes an equal part of each, in ``run.accumulate`` micro-batches.
    In evaluation the order is fixed, process ``rank`` takes the images ``rank::world``, and each image is a batch of
    its own: beside a larger one it would be padded with zeros, which SE's squeeze counts, and so give other detections.

    Args:
        split: the images.
        recipe: how they are changed and batched.
        train: shuffle and augment.
        device: where the batches shall lie.
        rank: which process this is.
        world: how many processes there are.

    Raises:
        InputError: the global batch cannot be shared out equally, or is larger than the split.
    """

    def __init__(
        self,
        split: BoxSet,
        recipe: DetectionRecipe,
        *,
        train: bool,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.split, self.recipe, self.train = split, recipe, train
        self.device, self.rank, self.world = device, rank, world
        batch, self.accumulate = recipe.data.batch_size, recipe.run.accumulate if train else 1
        parts = world * self.accumulate
        if train and batch % parts:
            raise InputError(
                f"data.batch_size={batch} is not a multiple of {parts}, which is processes={world} times "
                f"run.accumulate={self.accumulate}; give one that is"
            )
        if train and len(split) < batch:
            raise InputError(
                f"the training split has {len(split)} images, fewer than data.batch_size={batch}; give a smaller "
                "data.batch_size or more images"
            )
        self._todo: list[tuple[int, list[int]]] = []
        self._decoders: DataLoader[list[Example] | InputError] | None = None

    def __len__(self) -> int:
        """Micro-batches in an epoch; in training a multiple of ``run.accumulate``."""
        if self.train:
            return len(self.split) // self.recipe.data.batch_size * self.accumulate
        return len(range(self.rank, len(self.split), self.world))

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[list[Tensor], list[dict[str, Tensor]]]]:
        """The batches of an epoch.

        Args:
            epoch: counted from 0.
            start: how many to skip; those that follow are exactly what they would have been.

        Yields:
            Images (3, H, W) float32 in 0..1, each of its own size; and targets: ``boxes`` (n, 4), ``labels`` (n,), with
            masks ``masks`` (n, H, W); in evaluation crowds too, ``iscrowd`` (n,), ``area`` (n,) and the image's
            ``index`` in the split.
        """
        plan = self._plan(epoch)[start:]
        for examples in self._decoded([(epoch, indices) for indices in plan]):
            images = [send(image, self.device).float().div_(255) for image, _ in examples]
            yield images, [{name: send(t, self.device) for name, t in target.items()} for _, target in examples]

    def _plan(self, epoch: int) -> list[list[int]]:
        """The images of each micro-batch of this process."""
        count = len(self.split)
        if not self.train:
            return [[index] for index in range(self.rank, count, self.world)]
        order = stream("order", seed=self.recipe.run.seed, epoch=epoch).permutation(count)
        upright = self.split.shapes[:, 0] > self.split.shapes[:, 1]
        batches = grouped(order, upright, self.recipe.data.batch_size)
        mine: list[list[int]] = (
            batches.reshape(len(batches), self.world, self.accumulate, -1)[:, self.rank].reshape(len(self), -1).tolist()
        )
        return mine

    def _decoded(self, todo: list[tuple[int, list[int]]]) -> Iterator[list[Example]]:
        if self._decoders is None:
            workers = min(self.recipe.data.workers, len(self))
            self._decoders = DataLoader(
                _Files(self),
                batch_size=None,  # an item is a whole batch already
                sampler=self._todo,
                num_workers=workers,
                multiprocessing_context=_START if workers else None,
                persistent_workers=workers > 0,
                generator=torch.Generator(),  # else it draws a number from the global one
            )
        self._todo[:] = todo
        for batch in self._decoders:
            if isinstance(batch, InputError):
                self._decoders = None  # ends the workers at once
                raise batch
            yield batch


class _Files(Dataset[list[Example] | InputError]):
    """Data that a worker process needs to decode a batch."""

    def __init__(self, loader: BoxLoader) -> None:
        split = loader.split
        self.paths, self.shapes, self.first = split.paths, split.shapes, split.first
        self.boxes, self.labels, self.crowd, self.areas = split.boxes, split.labels, split.crowd, split.areas
        masks = loader.recipe.detector.masks
        self.segments = split.segments if masks else None
        self.masks, self.train = masks, loader.train
        self.augment, self.seed = loader.recipe.data.augment, loader.recipe.run.seed

    def __getitem__(self, item: tuple[int, list[int]]) -> list[Example] | InputError:
        epoch, indices = item
        try:
            return [self._read(epoch, index) for index in indices]
        except InputError as error:
            return error  # handed over as a value, to be raised in the main process as the one line it is

    def _read(self, epoch: int, index: int) -> Example:
        image = read_image(self.paths[index], 3)
        height, width = (int(side) for side in self.shapes[index])
        if image.shape[-2:] != (height, width):
            found = f"{image.shape[-1]} x {image.shape[-2]}"
            raise InputError(
                f"image {self.paths[index]} is {found} pixels, but its annotations are for {width} x {height}"
            )
        every = slice(int(self.first[index]), int(self.first[index + 1]))
        chosen = np.arange(every.start, every.stop)
        if self.train:
            chosen = chosen[~self.crowd[every]]
        target: dict[str, Any] = {
            "boxes": torch.from_numpy(self.boxes[chosen]),
            "labels": torch.from_numpy(self.labels[chosen]),
        }
        if self.masks:
            segments = [None if self.segments is None else self.segments[i] for i in chosen]
            target["masks"] = decode_masks(segments, height, width, where=str(self.paths[index]))
        if self.train:
            return change(image, target, self.augment, seed=self.seed, epoch=epoch, index=index)
        target["iscrowd"] = torch.from_numpy(self.crowd[chosen].astype(np.int64))
        target["area"] = torch.from_numpy(self.areas[chosen].astype(np.float32))
        target["index"] = torch.tensor(index)
        return image, target
