import numpy as np
import pytest
import torch

from senet.errors import InputError
from senet.train.detection.loader import BoxLoader, grouped
from senet.train.detection.sources import load_boxes
from tests.train.detection.folders import tiny_recipe, write_coco

CPU = torch.device("cpu")


def batches(root, epoch=0, start=0, *, train=True, rank=0, world=1, **changes):
    recipe = tiny_recipe(root, **changes)
    split = load_boxes(recipe.data, masks=recipe.detector.masks)[0 if train else 1]
    return list(BoxLoader(split, recipe, train=train, device=CPU, rank=rank, world=world).batches(epoch, start))


def same(a, b):
    return all(
        torch.equal(x, y)
        for (images, _), (others, _) in zip(a, b, strict=True)
        for x, y in zip(images, others, strict=True)
    ) and all(
        torch.equal(t[key], u[key])
        for (_, targets), (_, others) in zip(a, b, strict=True)
        for t, u in zip(targets, others, strict=True)
        for key in t
    )


def test_batches_are_of_one_orientation_as_far_as_it_goes_and_none_is_lost():
    order = np.random.default_rng(0).permutation(11)
    upright = np.arange(11) % 2 == 0
    found = grouped(order, upright, 4)
    assert found.shape == (2, 4)
    assert len(set(found.flatten().tolist())) == 8
    assert len({bool(upright[i]) for i in found[0]}) == 1


def test_batches_are_a_function_of_seed_epoch_and_place(coco):
    whole = batches(coco)
    assert same(whole, batches(coco))
    assert same(whole[1:], batches(coco, start=1))
    assert not same(whole, batches(coco, epoch=1))
    assert not same(whole, batches(coco, **{"run.seed": 1}))


def test_workers_change_nothing(coco):
    assert same(batches(coco), batches(coco, **{"data.workers": 1}))


def test_processes_and_micro_batches_share_a_batch_out(coco):
    whole, halves = batches(coco), [batches(coco, rank=rank, world=2) for rank in (0, 1)]
    for (images, _), *parts in zip(whole, *halves, strict=True):
        assert all(torch.equal(x, part[0][0]) for x, part in zip(images, parts, strict=True))
    micro = batches(coco, **{"run.accumulate": 2})
    assert [image.shape for images, _ in whole for image in images] == [i[0].shape for i, _ in micro]


@pytest.mark.parametrize("augment", ["none", "flip", "flips", "crop-flip"])
def test_boxes_follow_their_objects(coco, augment):
    """Wherever the image goes, the box lies on the rectangle of its class's colour."""
    for epoch in range(3):
        for images, targets in batches(coco, epoch, **{"data.augment": augment}):
            for image, target in zip(images, targets, strict=True):
                for box, label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True):
                    left, top, right, bottom = (round(x) for x in box)
                    inside = image[:, top:bottom, left:right].flatten(1).median(1).values
                    assert int(inside.argmax()) == label - 1  # red is the first class, green the second


def test_evaluation_goes_through_all_images_one_by_one(coco):
    found = batches(coco, train=False)
    assert [int(targets[0]["index"]) for _, targets in found] == [0, 1, 2, 3]
    assert {"iscrowd", "area"} <= found[0][1][0].keys()
    assert [int(t[0]["index"]) for _, t in batches(coco, train=False, rank=1, world=2)] == [1, 3]


def test_masks_follow_too(coco):
    for _, targets in batches(coco, **{"detector.masks": True}):
        for target in targets:
            for box, mask in zip(target["boxes"], target["masks"], strict=True):
                rows, columns = mask.nonzero().unbind(1)
                drawn = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
                assert torch.allclose(drawn, box, atol=1)


def test_an_image_of_another_size_than_its_annotations_say_is_refused(tmp_path):
    root = write_coco(tmp_path / "coco", change=lambda content: content["images"][0].update(width=80))
    with pytest.raises(InputError, match=r"0000\.png is 64 x 48 pixels, but its annotations are for 80 x 48"):
        batches(root)


def test_batches_that_cannot_be_are_refused(coco):
    with pytest.raises(InputError, match=r"6 images, fewer than data\.batch_size=8"):
        batches(coco, **{"data.batch_size": 8})
    with pytest.raises(InputError, match=r"data\.batch_size=2 is not a multiple of 3"):
        batches(coco, world=3)
