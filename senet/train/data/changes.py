"""Changes to whole batches in training, on the device: crop and flip, cut holes, mix."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from senet.train.data.augment import crop_flip, cut_out, mix_up
from senet.train.data.device import send
from senet.train.data.randomness import stream
from senet.train.recipe import Data

__all__ = ["Changes", "Mixing"]


class Changes:
    """Crops, flips and holes of an epoch, all drawn, and brought to the device, before its first batch.

    Args:
        spec: which changes.
        seed: of the run.
        epoch: counted from 0.
        count: images in the split; what happens to one depends on its index in it.
        device: where the batches lie.
    """

    def __init__(self, spec: Data, *, seed: int, epoch: int, count: int, device: torch.device) -> None:
        chance = stream("batch", seed=seed, epoch=epoch)
        self.spec = spec
        self.crops = send(torch.from_numpy(chance.random((count, 3), "float32")), device)
        self.holes = send(torch.from_numpy(chance.random((count, 2), "float32")), device)

    def __call__(self, images: Tensor, indices: Tensor) -> Tensor:
        """``(n, channels, size, size)`` float32 and the indices of these images ``(n,)`` to the images changed."""
        if self.spec.augment != "none":
            pad = self.spec.pad if self.spec.augment == "crop-flip" else 0
            images = crop_flip(images, self.crops[indices], pad=pad)
        if self.spec.cutout:
            images = cut_out(images, self.holes[indices], side=self.spec.cutout)
        return images


class Mixing:
    """Mixup of an epoch: one share a step, and for each micro-batch of this process an order of its images.

    A step is one batch of the paper's (arXiv 1710.09412): all its processes and micro-batches have the same share.

    Differs from the paper: where a batch is shared out, the partner of an image is one of its own micro-batch, as no
    other is at hand; so mixed batches, unlike others, depend on how many processes and micro-batches there are.

    Args:
        alpha: the shares come from Beta(alpha, alpha).
        classes: how many there are.
        chance: decides.
        shape: of the epoch: steps, processes, micro-batches in a step of one process, images in one of them.
        rank: which process this is.
        device: where the batches lie.
    """

    def __init__(
        self,
        alpha: float,
        classes: int,
        chance: np.random.Generator,
        shape: tuple[int, int, int, int],
        *,
        rank: int,
        device: torch.device,
    ) -> None:
        steps, _, self.accumulate, images = shape
        self.classes = classes
        self.shares: list[float] = chance.beta(alpha, alpha, steps).tolist()
        orders = chance.random(shape)[:, rank].argsort(-1).reshape(-1, images)
        self.orders = send(torch.from_numpy(orders), device)

    def __call__(self, number: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The micro-batch of that number in the epoch, mixed: see :func:`senet.train.data.augment.mix_up`."""
        share = self.shares[number // self.accumulate]
        return mix_up(images, labels, self.orders[number], share=share, classes=self.classes)
