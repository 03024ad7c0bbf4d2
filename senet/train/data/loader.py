"""The two loaders: for images that lie in memory, and for files decoded when asked for."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from senet.errors import InputError
from senet.train.data.augment import jitter, resized_crop, rotate
from senet.train.data.batches import Loader
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
    """Batches of images that lie decoded in memory."""

    def _pixels(self, epoch: int, plan: list[Tensor]) -> Iterator[Tensor]:
        images = self.image_set.images
        assert images is not None
        for indices in plan:
            if self.train and _varies(self.spec):
                fitted = self.image_set.fitted
                yield torch.stack(
                    [_varied(images[i], self.spec, self.seed, epoch, i, fitted=fitted) for i in indices.tolist()]
                )
            else:
                batch = images[indices]
                yield batch if self.image_set.fitted else fit(batch, self.spec)


class StreamLoader(Loader):
    """Batches of images that are decoded when asked for, by ``spec.workers`` processes (0: by this one).

    The processes are started at the first batch, live as long as the loader, and are never more than there are
    batches. One epoch can be handed out at a time.
    """

    _decoders: DataLoader[Tensor | InputError] | None = None

    def _pixels(self, epoch: int, plan: list[Tensor]) -> Iterator[Tensor]:
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
        self._todo[:] = [(epoch, indices.tolist()) for indices in plan]
        for batch in self._decoders:
            if isinstance(batch, InputError):
                self._decoders = None  # ends the workers at once; the traceback may keep this loader for long
                raise batch
            yield batch


class _Files(Dataset[Tensor | InputError]):
    """What a worker process needs to decode a batch."""

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
