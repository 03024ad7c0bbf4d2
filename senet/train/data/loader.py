"""The two loaders: for images that lie in memory, and for files decoded when asked for."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from senet.errors import InputError
from senet.train.data.augment import jitter, resized_crop, rotate
from senet.train.data.batches import Loader
from senet.train.data.device import has_room, send
from senet.train.data.image_set import ImageSet
from senet.train.data.images import read_image
from senet.train.data.preprocess import fit
from senet.train.data.randomness import stream
from senet.train.recipe import Data

__all__ = ["MemoryLoader", "StreamLoader", "make_loader"]

# Forking this process would be unsafe: it has threads. Spawned ones run C++ destructors when they end, at which some
# abort; those of the fork server do not.
_START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


class MemoryLoader(Loader):
    """Batches of images that lie decoded in memory: on the device for good, where that can be.

    It can where the device is CUDA, they take at most a quarter of its free memory, and they need nothing that is done
    to images one by one (resizing, resized-crop, rotation, jitter). Then nothing comes from the host in an epoch but
    its order and its chance, once, before the first batch. Otherwise they stay on the host, and each batch is sent.
    On a CPU they lie where they are, and are not copied. Where they lie changes no batch.
    """

    @cached_property
    def images(self) -> Tensor:
        """``(N, channels, height, width)`` uint8, where the batches are gathered."""
        images = self.image_set.images
        assert images is not None
        stay = self._one_by_one or self._unfit or not has_room(self.device, images.nbytes)
        return images if stay else images.to(self.device)

    @property
    def _one_by_one(self) -> bool:
        return self.train and _varies(self.spec)

    @property
    def _unfit(self) -> bool:
        """Whether the images have to be brought to the size that the network sees."""
        assert self.image_set.images is not None
        sides = {*self.image_set.images.shape[-2:], self.spec.resize or self.spec.size}
        return not self.image_set.fitted and sides != {self.spec.size}

    def _pixels(self, epoch: int, order: Tensor) -> Iterator[Tensor]:
        images, fitted = self.images, self.image_set.fitted
        for indices in self._cut(send(order, images.device)):
            if self._one_by_one:
                varied = [_varied(images[i], self.spec, self.seed, epoch, i, fitted=fitted) for i in indices.tolist()]
                yield torch.stack(varied)
            else:
                yield fit(images[indices], self.spec) if self._unfit else images[indices]


class StreamLoader(Loader):
    """Batches of images that are decoded when asked for, by ``spec.workers`` processes (0: by this one).

    The processes are started at the first batch, live as long as the loader, and are never more than there are
    batches. One epoch can be handed out at a time.
    """

    _decoders: DataLoader[Tensor | InputError] | None = None

    def _pixels(self, epoch: int, order: Tensor) -> Iterator[Tensor]:
        if self._decoders is None:
            self._todo: list[tuple[int, list[int]]] = []
            workers = min(self.spec.workers, len(self))
            self._decoders = DataLoader(
                _Files(self),
                batch_size=None,  # an item is a whole batch already
                sampler=self._todo,
                num_workers=workers,
                multiprocessing_context=_START if workers else None,
                persistent_workers=workers > 0,
                generator=torch.Generator(),  # else it draws a number from the global one
            )
        self._todo[:] = [(epoch, indices.tolist()) for indices in self._cut(order)]
        for batch in self._decoders:
            if isinstance(batch, InputError):
                self._decoders = None  # ends the workers at once; the traceback may keep this loader for long
                raise batch
            yield batch


class _Files(Dataset[Tensor | InputError]):
    """Data that a worker process needs to decode a batch."""

    def __init__(self, loader: Loader) -> None:
        assert loader.image_set.paths is not None
        self.paths, self.spec, self.seed = loader.image_set.paths, loader.spec, loader.seed
        self.vary = loader.train and _varies(self.spec)

    def __getitem__(self, item: tuple[int, list[int]]) -> Tensor | InputError:
        epoch, indices = item
        try:
            return torch.stack([self._read(epoch, index) for index in indices])
        except InputError as error:
            return error  # handed over as a value, to be raised in the main process as the one line it is

    def _read(self, epoch: int, index: int) -> Tensor:
        image = read_image(self.paths[index], self.spec.channels)
        return _varied(image, self.spec, self.seed, epoch, index) if self.vary else fit(image, self.spec)


def _varies(spec: Data) -> bool:
    """Whether each image is changed by chance of its own, before it is one of a batch."""
    return spec.augment == "resized-crop" or spec.rotation > 0 or spec.jitter > 0


def _varied(image: Tensor, spec: Data, seed: int, epoch: int, index: int, *, fitted: bool = False) -> Tensor:
    """A random part of the image, or the image as in evaluation; turned; jittered."""
    chance = stream("image", seed=seed, epoch=epoch, index=index)
    if spec.augment == "resized-crop":
        size, min_area, interpolation = spec.size, spec.min_area, spec.interpolation
        image = resized_crop(image, chance, size=size, min_area=min_area, interpolation=interpolation)
    elif not fitted:
        image = fit(image, spec)
    if spec.rotation:
        image = rotate(image, chance, degrees=spec.rotation, fill=[255 * mean for mean in spec.mean])
    if spec.jitter:
        image = jitter(image, chance, most=spec.jitter)
    return image


def make_loader(
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
) -> Loader:
    """The loader for where the images are; arguments and errors are :class:`Loader`'s."""
    kind = StreamLoader if image_set.images is None else MemoryLoader
    return kind(
        image_set,
        spec,
        train=train,
        seed=seed,
        device=device,
        rank=rank,
        world=world,
        accumulate=accumulate,
        channels_last=channels_last,
    )
