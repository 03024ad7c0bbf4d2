"""Batches, each a pure function of the seed, the epoch and the images in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from senet.errors import InputError
from senet.train.data.changes import Changes, Mixing
from senet.train.data.device import send
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
        InputError: in training: the global batch cannot be shared out equally, or is larger than the split; or a share
            of it is a single image, which mixup has nothing to mix with.
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
        parts, shares = world * accumulate, f"processes={world} times run.accumulate={accumulate}"
        if train and spec.batch_size % parts:
            raise InputError(
                f"data.batch_size={spec.batch_size} is not a multiple of {parts}, which is {shares}; give one that is"
            )
        if train and len(image_set) < spec.batch_size:
            raise InputError(
                f"the training split has {len(image_set)} images, fewer than data.batch_size={spec.batch_size}; "
                f"give a smaller data.batch_size or more images"
            )
        if train and spec.mixup and spec.batch_size == parts:
            raise InputError(
                f"data.mixup={spec.mixup} mixes images that one process sees at once, and with data.batch_size="
                f"{spec.batch_size} that is one ({shares}); give a larger data.batch_size, or data.mixup=0"
            )
        self.image_set, self.spec, self.train, self.seed = image_set, spec, train, seed
        self.device, self.rank, self.world, self.accumulate = device, rank, world, accumulate
        self.micro_batch = max(1, spec.batch_size // parts)
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._normalise = Normalise(spec, device)
        self._labels = send(image_set.labels, device)

    def __len__(self) -> int:
        """Micro-batches in an epoch; in training a multiple of ``accumulate``."""
        if self.train:
            return len(self.image_set) // self.spec.batch_size * self.accumulate
        return -(-len(range(self.rank, len(self.image_set), self.world)) // self.micro_batch)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch.

        Order and chance go to the device once, before the first batch.

        Args:
            epoch: counted from 0.
            start: how many to skip; those that follow are exactly what they would have been.

        Yields:
            Images ``(n, channels, size, size)`` float32, normalised, and labels, on the device: ``(n,)`` int64, or in
            training with ``spec.mixup`` ``(n, classes)`` float32, how much of each class is in the image.
        """
        assert 0 <= start <= len(self), f"start={start} of {len(self)} batches"
        order = self._order(epoch)[start * self.micro_batch :]
        plan = self._cut(send(order, self.device))
        change, mix = self._changes(epoch), self._mixing(epoch)
        for number, (indices, pixels) in enumerate(zip(plan, self._pixels(epoch, order), strict=True), start):
            images, labels = self._normalise(send(pixels, self.device)), self._labels[indices]
            if change is not None:
                images = change(images, indices)
            if mix is not None:
                images, labels = mix(number, images, labels)
            yield images.contiguous(memory_format=self._format), labels

    @abstractmethod
    def _pixels(self, epoch: int, order: Tensor) -> Iterator[Tensor]:
        """For each batch of the order, its images ``(n, channels, size, size)`` uint8, on the CPU or on the device."""

    def _order(self, epoch: int) -> Tensor:
        """``(N,)`` int64 on the CPU: the indices of this process's images, one micro-batch after the other."""
        count = len(self.image_set)
        if not self.train:
            return torch.arange(count)[self.rank :: self.world]
        order = torch.from_numpy(stream("order", seed=self.seed, epoch=epoch).permutation(count))
        steps = count // self.spec.batch_size
        return order[: steps * self.spec.batch_size].view(steps, self.world, -1)[:, self.rank].flatten()

    def _cut(self, order: Tensor) -> list[Tensor]:
        """The order in micro-batches; in evaluation the last may be smaller."""
        return [order[at : at + self.micro_batch] for at in range(0, len(order), self.micro_batch)]

    def _changes(self, epoch: int) -> Changes | None:
        if not self.train:
            return None
        return Changes(self.spec, seed=self.seed, epoch=epoch, count=len(self.image_set), device=self.device)

    def _mixing(self, epoch: int) -> Mixing | None:
        if not (self.train and self.spec.mixup):
            return None
        shape = (len(self) // self.accumulate, self.world, self.accumulate, self.micro_batch)
        chance = stream("mixup", seed=self.seed, epoch=epoch)
        return Mixing(self.spec.mixup, len(self.image_set.classes), chance, shape, rank=self.rank, device=self.device)
