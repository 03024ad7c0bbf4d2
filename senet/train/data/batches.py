"""Batches, each a pure function of the seed, the epoch and the images in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from senet.errors import InputError
from senet.train.data.augment import crop_flip, cut_out
from senet.train.data.image_set import ImageSet
from senet.train.data.preprocess import Normalise
from senet.train.data.randomness import stream
from senet.train.recipe import Data

__all__ = ["Loader"]


class Loader(ABC):
    """Hands out one split in batches, to one process of several.

    In training, an epoch is a random order of all images, cut into global batches of ``spec.batch_size``; an
    incomplete last one is dropped. Each process takes an equal part of each, in ``accumulate`` micro-batches.
    In evaluation the order is fixed, process ``rank`` takes the images ``rank::world``, and none is left out
    (so one process may have a batch more than another).

    Args:
        image_set: the images.
        spec: how they are changed and batched.
        train: shuffle and augment.
        seed: decides the order and the augmentation.
        device: where the batches shall lie.
        rank: which process this is.
        world: how many processes there are.
        accumulate: micro-batches in a step of the optimizer.
        channels_last: memory format of the images.

    Raises:
        InputError: in training: the global batch cannot be shared out equally, or is larger than the split.
    """

    def __init__(
        self,
        image_set: ImageSet,
        spec: Data,
        *,
        train: bool,
        seed: int,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
        accumulate: int = 1,
        channels_last: bool = False,
    ) -> None:
        parts = world * accumulate
        if train and spec.batch_size % parts:
            raise InputError(
                f"data.batch_size={spec.batch_size} is not a multiple of {parts}, "
                f"which is {world} processes times run.accumulate={accumulate}"
            )
        if train and len(image_set) < spec.batch_size:
            raise InputError(
                f"the training split has {len(image_set)} images, fewer than data.batch_size={spec.batch_size}; "
                f"give a smaller data.batch_size or more images"
            )
        self.image_set, self.spec, self.train, self.seed = image_set, spec, train, seed
        self.device, self.rank, self.world, self.accumulate = device, rank, world, accumulate
        self.micro_batch = max(1, spec.batch_size // parts)
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._normalise = Normalise(spec, device)

    def __len__(self) -> int:
        """Micro-batches in an epoch; in training a multiple of ``accumulate``."""
        if self.train:
            return len(self.image_set) // self.spec.batch_size * self.accumulate
        return -(-len(range(self.rank, len(self.image_set), self.world)) // self.micro_batch)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch.

        Args:
            epoch: counted from 0.
            start: how many to skip; those that follow are exactly what they would have been.

        Yields:
            Images ``(n, channels, size, size)`` float32, normalised, and labels ``(n,)`` int64, on the device.
        """
        assert 0 <= start <= len(self), f"start={start} of {len(self)} batches"
        plan = self._plan(epoch)[start:]
        count = len(self.image_set) if self.train else 0
        chance = stream("batch", seed=self.seed, epoch=epoch)
        crops = torch.from_numpy(chance.random((count, 3), "float32"))
        holes = torch.from_numpy(chance.random((count, 2), "float32"))
        for indices, pixels in zip(plan, self._pixels(epoch, plan), strict=True):
            images = self._normalise(self._send(pixels))
            if self.train and self.spec.augment != "none":
                pad = self.spec.pad if self.spec.augment == "crop-flip" else 0
                images = crop_flip(images, self._send(crops[indices]), pad=pad)
            if self.train and self.spec.cutout:
                images = cut_out(images, self._send(holes[indices]), side=self.spec.cutout)
            yield images.contiguous(memory_format=self._format), self._send(self.image_set.labels[indices])

    @abstractmethod
    def _pixels(self, epoch: int, plan: list[Tensor]) -> Iterator[Tensor]:
        """For each batch of the plan, its images as ``(n, channels, size, size)`` uint8 on the CPU."""

    def _plan(self, epoch: int) -> list[Tensor]:
        """The indices of the images in each micro-batch."""
        count = len(self.image_set)
        if not self.train:
            own = torch.arange(count)[self.rank :: self.world]
            return [own[at : at + self.micro_batch] for at in range(0, len(own), self.micro_batch)]
        order = torch.from_numpy(stream("order", seed=self.seed, epoch=epoch).permutation(count))
        steps = count // self.spec.batch_size
        shared = order[: steps * self.spec.batch_size].view(steps, self.world, self.accumulate, self.micro_batch)
        return list(shared[:, self.rank].flatten(0, 1))

    def _send(self, tensor: Tensor) -> Tensor:
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)
