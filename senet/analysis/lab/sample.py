"""A random sample of images of which nobody knows beforehand how many there are."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["Sample"]


class Sample:
    """Keeps at most so many of the images offered, each image with equal chance, on the CPU.

    Every image draws a number; those with the smallest are kept (a reservoir, A. Fan, M. Muller and I. Rezucha, 1962).
    Which images these are depends on the seed and on how many there were, not on how they were cut into batches.

    Args:
        most: how many to keep.
        seed: of the draw.
    """

    def __init__(self, most: int, *, seed: int) -> None:
        self.most, self.seen, self.batch = most, 0, 1
        self._generator = torch.Generator().manual_seed(seed)
        self._kept: list[tuple[float, int, Tensor, int]] = []  # a heap, the largest number on top

    def __len__(self) -> int:
        """Number of images kept."""
        return len(self._kept)

    def offer(self, images: Tensor, labels: Tensor) -> None:
        """Shows a batch: images (N, ...) and labels (N,)."""
        self.batch = max(self.batch, len(images))
        draws = torch.rand(len(images), generator=self._generator, dtype=torch.float64).tolist()
        for image, label, draw in zip(images, labels.tolist(), draws, strict=True):
            if len(self) < self.most or -draw > self._kept[0][0]:
                put = heapq.heappush if len(self) < self.most else heapq.heapreplace
                put(self._kept, (-draw, self.seen, image.to("cpu", copy=True), label))
            self.seen += 1

    @property
    def labels(self) -> Tensor:
        """(images,) int64, in the order in which the images came."""
        return torch.tensor([label for _, _, _, label in self._ordered()])

    def image(self, index: int) -> Tensor:
        """One of the images, by its place in that order."""
        return self._ordered()[index][2]

    def batches(self, device: torch.device) -> Iterator[Tensor]:
        """The images in that order, in batches as large as the largest that was offered."""
        kept = self._ordered()
        for start in range(0, len(kept), self.batch):
            yield torch.stack([image for _, _, image, _ in kept[start : start + self.batch]]).to(device)

    def _ordered(self) -> list[tuple[float, int, Tensor, int]]:
        return sorted(self._kept, key=lambda entry: entry[1])
