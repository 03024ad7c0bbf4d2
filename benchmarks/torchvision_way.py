"""Batches of small images as tutorials make them: torchvision's transforms, image by image, in a DataLoader."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # CIFAR-10's


class Cutout:
    """One square hole in a normalised image, after the code of DeVries and Taylor (arXiv 1708.04552)."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, image: Tensor) -> Tensor:
        """(channels, height, width) float32 to the same with a hole."""
        height, width = image.shape[1:]
        row, column = np.random.randint(height), np.random.randint(width)
        mask = np.ones((height, width), np.float32)
        (top, bottom), (left, right) = (
            np.clip((centre - self.side // 2, centre + self.side // 2), 0, size)
            for centre, size in ((row, height), (column, width))
        )
        mask[top:bottom, left:right] = 0
        return image * torch.from_numpy(mask).expand_as(image)


class Pictures(Dataset[tuple[Tensor, int]]):
    """Images held as torchvision's CIFAR10 holds them, one array, and handed out as it does, by way of Pillow.

    Args:
        images: (N, height, width, 3) uint8.
        labels: N numbers.
        cutout: side of the hole in pixels; 0 for none.
    """

    def __init__(self, images: np.ndarray, labels: list[int], *, cutout: int = 0) -> None:
        self.images, self.labels = images, labels
        steps = [
            transforms.RandomCrop(images.shape[1], padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
        self.transform = transforms.Compose([*steps, Cutout(cutout)] if cutout else steps)

    def __len__(self) -> int:
        """How many images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """One image, changed by chance, and its label."""
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def make_loader(pictures: Pictures, batch_size: int, workers: int) -> DataLoader[tuple[Tensor, int]]:
    """The DataLoader as PyTorch's and Lightning's guides to speed have it: its workers live from epoch to epoch."""
    keep = workers > 0
    return DataLoader(pictures, batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=keep)
