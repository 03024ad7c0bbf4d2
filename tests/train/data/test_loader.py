from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from senet.errors import InputError
from senet.train.data import ImageSet, MemoryLoader, StreamLoader, load_data, make_loader, to_input
from senet.train.data import loader as loader_module
from senet.train.data.augment import crop_flip, cut_out, jitter, resized_crop, rotate
from senet.train.data.randomness import stream
from senet.train.recipe import Data

CPU = torch.device("cpu")
SPEC = Data("synthetic", size=8, batch_size=8, pad=2)
# These images have their own index as label, so that a batch says which images it holds.
COUNT = 29


def numbered(count: int = COUNT, size: int = 8, channels: int = 3) -> ImageSet:
    images = torch.randint(
        0, 256, (count, channels, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return ImageSet("train", tuple(map(str, range(count))), torch.arange(count), images)


def loader(image_set: ImageSet | None = None, spec: Data = SPEC, *, train: bool = True, **options):
    return make_loader(image_set or numbered(), spec, train=train, **{"seed": 3, "device": CPU, **options})


def labels(batches) -> list[list[int]]:
    return [batch_labels.tolist() for _, batch_labels in batches]


def assert_same(one, other) -> None:
    one, other = list(one), list(other)
    assert len(one) == len(other)
    for (images, numbers), (other_images, other_numbers) in zip(one, other, strict=True):
        assert torch.equal(numbers, other_numbers)
        assert torch.equal(images, other_images)


@pytest.fixture
def on_disk(make_folder) -> ImageSet:
    root = make_folder({"a": 9, "b": 8}, size=(14, 11))
    train, _ = load_data(Data("folder", root=str(root), size=8, cache="disk", val_fraction=0.1))
    return dataclasses.replace(train, labels=torch.arange(len(train)))


def test_training_epoch_is_whole_batches_of_different_images():
    batches = list(loader().batches(0))
    assert len(batches) == len(loader()) == 3
    for images, numbers in batches:
        assert images.shape == (8, 3, 8, 8)
        assert images.dtype == torch.float32
        assert numbers.dtype == torch.int64
    seen = [number for batch in labels(batches) for number in batch]
    assert len(set(seen)) == 24
    assert seen != sorted(seen)


def test_every_image_gets_its_turn():
    seen = {number for epoch in range(20) for batch in labels(loader().batches(epoch)) for number in batch}
    assert seen == set(range(COUNT))


def test_epochs_and_seeds_differ_and_repeat():
    def order(**options):
        epoch = options.pop("epoch", 0)
        return labels(loader(**options).batches(epoch))

    assert order() == order()
    assert order(epoch=1) != order()
    assert order(seed=4) != order()


def test_values_are_those_of_each_image_by_itself():
    image_set, spec = numbered(), dataclasses.replace(SPEC, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    chance = torch.from_numpy(stream("batch", seed=3, epoch=5).random((COUNT, 3), "float32"))
    for images, numbers in loader(image_set, spec).batches(5):
        for image, number in zip(images, numbers.tolist(), strict=True):
            wanted = to_input(image_set.images[number], spec)
            wanted = crop_flip(wanted[None], chance[number : number + 1], pad=2)[0]
            assert torch.equal(image, wanted)


def written_out(image_set: ImageSet, spec: Data, *, seed: int, epoch: int):
    """The batches of an epoch in NumPy, one image after the other; kept runs have these numbers for good."""

    def numbers(purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=np.array([seed, epoch], np.uint64), counter=[0, 0, 0, purpose]))

    chance, pad, side, size = numbers(2), spec.pad, spec.cutout, spec.size
    crops, holes = (chance.random((len(image_set), columns), np.float32) for columns in (3, 2))
    order = numbers(1).permutation(len(image_set))
    for at in range(0, len(order) - spec.batch_size + 1, spec.batch_size):
        batch = []
        for index in order[at : at + spec.batch_size]:
            image = image_set.images[index].numpy().astype(np.float32)
            for channel in range(3):
                image[channel] -= np.float32(255) * np.float32(spec.mean[channel])
                image[channel] /= np.float32(255) * np.float32(spec.std[channel])
            row, column, flip = crops[index]
            top, left = (int(number * np.float32(2 * pad + 1)) for number in (row, column))
            image = np.pad(image, ((0, 0), (pad, pad), (pad, pad)))[:, top : top + size, left : left + size]
            image = image[:, :, ::-1].copy() if flip < 0.5 else image
            centre = [int(number * np.float32(size)) for number in holes[index]]
            rows, columns = (slice(max(c - side // 2, 0), max(c - side // 2 + side, 0)) for c in centre)
            image[:, rows, columns] = 0
            batch.append(image)
        yield torch.from_numpy(np.stack(batch)), torch.from_numpy(order[at : at + spec.batch_size])


@pytest.mark.parametrize("cutout", [0, 4, 5])
def test_batches_are_what_they_were_for_good(cutout):
    spec = dataclasses.replace(SPEC, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616), cutout=cutout)
    for epoch in (0, 7):
        assert_same(loader(spec=spec).batches(epoch), written_out(numbered(), spec, seed=3, epoch=epoch))


def test_augmentation_can_be_left_out():
    image_set, spec = numbered(), dataclasses.replace(SPEC, augment="none")
    for images, numbers in loader(image_set, spec).batches(0):
        assert torch.equal(images, torch.stack([to_input(image_set.images[number], spec) for number in numbers]))


@pytest.mark.parametrize("augment", ["none", "crop-flip"])
def test_holes_come_after_crop_and_flip_which_they_leave_as_they_were(augment):
    image_set, spec = numbered(), dataclasses.replace(SPEC, augment=augment, cutout=4)
    source = stream("batch", seed=3, epoch=5)
    source.random((COUNT, 3), "float32")  # what crops and flips take
    chance = torch.from_numpy(source.random((COUNT, 2), "float32"))
    whole = loader(image_set, dataclasses.replace(spec, cutout=0)).batches(5)
    for (images, numbers), (plain, order) in zip(loader(image_set, spec).batches(5), whole, strict=True):
        assert torch.equal(numbers, order)
        assert torch.equal(images, cut_out(plain, chance[numbers], side=4))
        assert not torch.equal(images, plain)


def test_holes_are_for_training_alone():
    spec = dataclasses.replace(SPEC, cutout=4)
    assert_same(loader(spec=spec, train=False).batches(0), loader(train=False).batches(0))


def test_resized_crop_in_memory():
    image_set, spec = numbered(size=16), dataclasses.replace(SPEC, augment="resized-crop")
    chance = torch.from_numpy(stream("batch", seed=3, epoch=2).random((COUNT, 3), "float32"))
    for images, numbers in loader(image_set, spec).batches(2):
        for image, number in zip(images, numbers.tolist(), strict=True):
            own = stream("image", seed=3, epoch=2, index=number)
            crop = resized_crop(image_set.images[number], own, size=8, min_area=spec.min_area)
            assert torch.equal(image, to_input(crop, spec).flip(2) if chance[number, 2] < 0.5 else to_input(crop, spec))


def test_parts_of_images_are_turned_and_then_jittered_by_the_same_chance():
    image_set = numbered(size=16)
    changes = {"augment": "resized-crop", "interpolation": "bicubic", "rotation": 30.0, "jitter": 9}
    spec = dataclasses.replace(SPEC, mean=(0.1, 0.2, 0.3), **changes)
    flips = torch.from_numpy(stream("batch", seed=3, epoch=2).random((COUNT, 3), "float32"))[:, 2] < 0.5
    for images, numbers in loader(image_set, spec).batches(2):
        for image, number in zip(images, numbers.tolist(), strict=True):
            chance = stream("image", seed=3, epoch=2, index=number)
            part = image_set.images[number]
            part = resized_crop(part, chance, size=8, min_area=spec.min_area, interpolation="bicubic")
            part = rotate(part, chance, degrees=30.0, fill=[25.5, 51.0, 76.5])
            wanted = to_input(jitter(part, chance, most=9), spec)
            assert torch.equal(image, wanted.flip(2) if flips[number] else wanted)


@pytest.mark.parametrize("augment", ["none", "crop-flip"])
@pytest.mark.parametrize("change", [{"rotation": 30.0}, {"jitter": 9}])
def test_whole_images_are_turned_and_jittered_before_crop_and_flip(augment, change):
    image_set, spec = numbered(), dataclasses.replace(SPEC, augment=augment)
    changed = []
    for number, image in enumerate(image_set.images):
        chance = stream("image", seed=3, epoch=1, index=number)
        if "rotation" in change:
            changed.append(rotate(image, chance, degrees=30.0, fill=[255 * mean for mean in spec.mean]))
        else:
            changed.append(jitter(image, chance, most=9))
    wanted = loader(dataclasses.replace(image_set, images=torch.stack(changed)), spec).batches(1)
    assert_same(loader(image_set, dataclasses.replace(spec, **change)).batches(1), wanted)


def test_turning_and_jittering_are_for_training_alone():
    spec = dataclasses.replace(SPEC, rotation=30.0, jitter=9)
    assert_same(loader(spec=spec, train=False).batches(0), loader(train=False).batches(0))


def test_images_of_another_size_are_fitted_unless_they_are_already():
    spec = dataclasses.replace(SPEC, resize=10)
    image_set = numbered(size=16)
    (images, numbers), *_ = loader(image_set, spec, train=False).batches(0)
    assert torch.equal(images, torch.stack([to_input(image_set.images[number], spec) for number in numbers]))
    fitted = dataclasses.replace(numbered(size=8), fitted=True)
    (images, numbers), *_ = loader(fitted, spec, train=False).batches(0)
    plain = dataclasses.replace(spec, resize=None)
    assert torch.equal(images, torch.stack([to_input(fitted.images[number], plain) for number in numbers]))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("cutout", [0, 3])
@pytest.mark.parametrize("augment", ["none", "crop-flip", "resized-crop"])
def test_skipping_is_as_not_skipping(train, augment, cutout):
    spec = dataclasses.replace(SPEC, augment=augment, cutout=cutout, rotation=float(cutout), jitter=cutout)
    batches = loader(spec=spec, train=train)
    whole = list(batches.batches(1))
    for start in range(len(batches) + 1):
        assert_same(batches.batches(1, start), whole[start:])


def test_evaluation_is_every_image_once_in_order_unchanged():
    image_set = numbered()
    batches = loader(image_set, train=False)
    assert len(batches) == 4
    assert labels(batches.batches(0)) == [list(range(at, min(at + 8, COUNT))) for at in range(0, COUNT, 8)]
    images = torch.cat([images for images, _ in batches.batches(0)])
    assert torch.equal(images, torch.stack([to_input(image, SPEC) for image in image_set.images]))
    assert_same(batches.batches(0), batches.batches(7))


@pytest.mark.parametrize("count", [1, 2, 3, 29, 32])
@pytest.mark.parametrize("world", [2, 3])
def test_processes_evaluate_every_image_once(count, world):
    parts = [loader(numbered(count), train=False, rank=rank, world=world) for rank in range(world)]
    seen = [labels(part.batches(0)) for part in parts]
    assert [len(part) for part in parts] == [len(batches) for batches in seen]
    assert sorted(number for batches in seen for batch in batches for number in batch) == list(range(count))
    assert max(len(batch) for batches in seen for batch in batches) <= 8 // world


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (1, 2), (2, 2), (1, 4), (8, 1)])
def test_processes_and_micro_batches_share_the_batch(world, accumulate):
    """All shares of a step together are the batch of one process: the same images, changed in the same way."""
    spec = dataclasses.replace(SPEC, cutout=3, rotation=20.0, jitter=5)
    whole = list(loader(spec=spec).batches(4))
    layouts = [{"rank": rank, "world": world, "accumulate": accumulate} for rank in range(world)]
    parts = [list(loader(spec=spec, **layout).batches(4)) for layout in layouts]
    assert {len(part) for part in parts} == {3 * accumulate}
    for step, (images, numbers) in enumerate(whole):
        shares = [part[step * accumulate + micro] for part in parts for micro in range(accumulate)]
        assert {len(share) for _, share in shares} == {8 // world // accumulate}
        assert torch.equal(torch.cat([share for _, share in shares]), numbers)
        assert torch.equal(torch.cat([share for share, _ in shares]), images)


def test_batch_that_cannot_be_shared():
    with pytest.raises(
        InputError, match=r"data.batch_size=8 is not a multiple of 6.*processes=3 times run.accumulate=2"
    ):
        loader(world=3, accumulate=2)
    assert len(loader(train=False, world=3)) == 5  # evaluation need not share equally


def test_training_split_smaller_than_a_batch():
    with pytest.raises(InputError, match=r"has 7 images, fewer than data.batch_size=8"):
        loader(numbered(7))
    assert len(loader(numbered(8))) == len(loader(numbered(7), train=False)) == 1


def test_channels_last():
    for images, _ in loader(channels_last=True).batches(0):
        assert images.is_contiguous(memory_format=torch.channels_last)
    assert_same(loader(channels_last=True).batches(0), loader().batches(0))


def global_states() -> list[object]:
    return [torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()]


def test_global_generators_are_neither_used_nor_disturbed(on_disk):
    spec = dataclasses.replace(SPEC, augment="resized-crop", rotation=20.0, jitter=5, workers=0)
    for image_set in (numbered(), on_disk):
        torch.manual_seed(1)
        before = global_states()
        first = list(loader(image_set, spec).batches(0))
        assert global_states() == before
        torch.manual_seed(2)
        assert_same(first, loader(image_set, spec).batches(0))


@pytest.mark.parametrize("train", [True, False])
def test_where_the_images_lie_changes_nothing(make_folder, train):
    root = str(make_folder({"a": 9, "b": 8}, size=(14, 11)))
    changes = {"cutout": 3, "rotation": 20.0, "jitter": 5}
    spec = Data("folder", root=root, size=8, resize=9, batch_size=4, pad=1, workers=0, **changes)
    kinds = []
    batches = []
    for cache in ("memory", "disk"):
        image_set = load_data(dataclasses.replace(spec, cache=cache))[0 if train else 1]
        kinds.append(loader(image_set, spec, train=train))
        batches.append(kinds[-1].batches(2))
    assert [type(kind) for kind in kinds] == [MemoryLoader, StreamLoader]
    assert_same(*batches)


def test_streamed_resized_crop_is_of_the_whole_image(on_disk):
    spec = dataclasses.replace(SPEC, augment="resized-crop", workers=0, min_area=1.0)
    images = torch.cat([images for images, _ in loader(on_disk, spec).batches(0)])
    centre = torch.cat([images for images, _ in loader(on_disk, spec, train=False).batches(0)])
    assert images.shape[1:] == centre.shape[1:] == (3, 8, 8)
    again = torch.cat([images for images, _ in loader(on_disk, spec).batches(1)])
    assert not torch.equal(images, again)


@pytest.mark.parametrize("change", [{}, {"augment": "resized-crop"}, {"rotation": 20.0, "jitter": 5}])
def test_workers_change_nothing(on_disk, change):
    """An epoch left early, then others handed out by the same workers: as by none."""
    spec = dataclasses.replace(SPEC, **change, workers=0, batch_size=4)
    alone, helped = loader(on_disk, spec), loader(on_disk, dataclasses.replace(spec, workers=2))
    before = global_states()
    next(helped.batches(0))
    for epoch, start in ((0, 0), (1, 0), (1, 2)):
        assert_same(helped.batches(epoch, start), alone.batches(epoch, start))
    assert global_states() == before


def test_more_workers_than_batches(on_disk):
    spec = dataclasses.replace(SPEC, workers=3)
    one = loader(on_disk.take(torch.arange(2)), spec, train=False)
    assert labels(one.batches(0)) == [[0, 1]]
    none = loader(on_disk.take(torch.arange(1)), spec, train=False, rank=1, world=2)
    assert labels(none.batches(0)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_file_is_one_line(on_disk, workers):
    on_disk.paths[5].write_bytes(b"no image any more")
    batches = loader(on_disk, dataclasses.replace(SPEC, workers=workers), train=False)
    with pytest.raises(InputError, match=r"^cannot read image .*\.png: not an image") as caught:
        list(batches.batches(0))
    assert "\n" not in str(caught.value)


class Sent(TorchDispatchMode):
    """Counts the copies from the CPU to another device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default:
            self.count += args[0].device.type == "cpu" != result.device.type
        return result


FAR = torch.device("meta")  # its tensors have no content: whoever asks for it, or mixes them with others, fails


@pytest.fixture
def room(monkeypatch):
    """As if the device had room for the images, or none."""

    def make(there: bool) -> None:
        monkeypatch.setattr(loader_module, "has_room", lambda device, size: there)

    return make


@pytest.mark.parametrize("there", [True, False])
def test_images_on_the_device_are_sent_once_and_others_batch_by_batch(room, there):
    room(there)
    spec = dataclasses.replace(SPEC, cutout=3)
    for train in (True, False):
        batches = loader(spec=spec, train=train, device=FAR)
        assert batches.images.is_meta == there
        epoch = batches.batches(0)
        next(epoch)
        with Sent() as sent:
            rest = list(epoch)
        assert {(images.device, numbers.device) for images, numbers in rest} == {(FAR, FAR)}
        assert sent.count == (0 if there else len(rest))


@pytest.mark.parametrize("change", [{"augment": "resized-crop"}, {"rotation": 5.0}, {"jitter": 2}, {"resize": 10}])
def test_images_that_the_host_must_change_stay_there(room, change):
    room(True)
    spec = dataclasses.replace(SPEC, **change)
    assert not loader(spec=spec, device=FAR).images.is_meta
    assert loader(spec=spec, train=False, device=FAR).images.is_meta == ("resize" not in change)
    assert next(loader(spec=spec, device=FAR).batches(0))[0].shape == (8, 3, 8, 8)


def test_images_that_the_cpu_holds_are_not_copied():
    image_set = numbered()
    assert loader(image_set).images is image_set.images


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("augment", ["crop-flip", "resized-crop"])
@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_gpu_gets_what_the_cpu_gets(on_disk, augment, mixup):
    spec = dataclasses.replace(SPEC, augment=augment, cutout=3, mixup=mixup)
    for image_set in (numbered(), on_disk):
        there = list(loader(image_set, spec, device=torch.device("cuda")).batches(0))
        assert all(images.is_cuda and numbers.is_cuda for images, numbers in there)
        for (images, numbers), (wanted, order) in zip(there, loader(image_set, spec).batches(0), strict=True):
            torch.testing.assert_close(numbers.cpu(), order)
            torch.testing.assert_close(images.cpu(), wanted, atol=1e-6, rtol=1e-6)
