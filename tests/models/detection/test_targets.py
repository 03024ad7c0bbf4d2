import pytest
import torch

from senet.errors import InputError
from senet.models.detection.targets import check_images, check_targets

IMAGE = torch.zeros(3, 40, 60)


def check(boxes, labels=None, **target):
    labels = torch.ones(len(boxes), dtype=torch.int64) if labels is None else labels
    check_targets([IMAGE], [{"boxes": boxes, "labels": labels, **target}], 3, masks="masks" in target)


@pytest.mark.parametrize(
    ("box", "label"),
    [
        ([float("nan"), 1, 10, 10], 1),
        ([1, 1, float("inf"), 10], 1),
        ([5, 5, 5, 10], 1),
        ([5, 10, 9, 8], 1),
        ([70, 5, 80, 10], 1),
        ([-9, 5, 0, 10], 1),
        ([1, 1, 10, 10], 0),
        ([1, 1, 10, 10], 4),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_by_its_number(box, label):
    boxes = torch.tensor([[1.0, 1, 10, 10], box])
    with pytest.raises(InputError, match=r"^target 0: box 1 is .* accepted: finite left < right .* labels 1 to 3"):
        check(boxes, torch.tensor([1, label]))


def test_good_ones_pass():
    check(torch.zeros(0, 4))
    check(torch.tensor([[-5.0, -5, 70, 70]]), torch.tensor([3]))  # partly outside
    check(torch.tensor([[1.0, 1, 5, 5]]), masks=torch.zeros(1, 40, 60))


@pytest.mark.parametrize(
    ("boxes", "labels", "more", "words"),
    [
        (torch.zeros(1, 3), None, {}, "boxes are torch.float32 (1, 3)"),
        (torch.zeros(1, 4, dtype=torch.int64), None, {}, "boxes are torch.int64 (1, 4)"),
        (torch.ones(2, 4), torch.ones(1, dtype=torch.int64), {}, "one for each of 2 boxes"),
        (torch.ones(1, 4), torch.ones(1), {}, "labels are torch.float32"),
        (torch.zeros(0, 4), None, {"masks": torch.zeros(0, 4, 4)}, "accepted: (0, 40, 60)"),
    ],
)
def test_other_shapes_and_types_are_refused(boxes, labels, more, words):
    with pytest.raises(InputError) as refused:
        check(boxes, labels, **more)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("boxes", "labels", "words"),
    [
        ([[1.0, 1, 5, 5]], torch.ones(1), "boxes are list; accepted: a tensor"),
        ("1 1 5 5", torch.ones(1), "boxes are str; accepted: a tensor"),
        (torch.ones(1, 4), [1], "labels are list; accepted: a tensor"),
    ],
)
def test_what_is_no_tensor_is_refused(boxes, labels, words):
    with pytest.raises(InputError, match=words):
        check(boxes, labels)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "no images"),
        ([torch.zeros(1, 40, 60)], r"image 0 is torch.float32 \(1, 40, 60\); accepted: floats \(3, H, W\)"),
        ([IMAGE, torch.zeros(3, 4, 4, dtype=torch.uint8)], r"image 1 is torch.uint8 \(3, 4, 4\)"),
        (IMAGE, r"image 0 is torch.float32 \(40, 60\)"),  # not in a list
        (["a.png"], "image 0 is str"),
        ([torch.zeros(3, 0, 0)], "image 0 is 0 x 0 pixels"),
        ([torch.zeros(3, 1, 97)], "image 0 is 97 x 1 pixels, and of its shorter side nothing is left at max_size=96"),
    ],
)
def test_images_that_cannot_be_seen_are_refused(images, words):
    with pytest.raises(InputError, match=words):
        check_images(images, 96)


def test_images_that_can_be_seen_pass():
    check_images([IMAGE, torch.zeros(3, 1, 96)], 96)
    check_images(torch.zeros(2, 3, 8, 8), 96)


def test_no_targets_are_refused():
    with pytest.raises(InputError, match="needs targets"):
        check_targets([IMAGE], None, 3, masks=False)
    with pytest.raises(InputError, match="1 images have 0 targets"):
        check_targets([IMAGE], [], 3, masks=False)
    with pytest.raises(InputError, match="target 0 lacks labels"):
        check_targets([IMAGE], [{"boxes": torch.zeros(0, 4)}], 3, masks=False)
    with pytest.raises(InputError, match="target 0 is NoneType; accepted: boxes, labels by name"):
        check_targets([IMAGE], [None], 3, masks=False)
