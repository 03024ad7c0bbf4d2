import pytest
import torch

from senet.train.detection.voc_ap import voc_ap


def boxes(*lefts):
    return torch.tensor([[left, 0.0, left + 10, 10] for left in lefts]).reshape(-1, 4)


def image(objects, found, scores, difficult=()):
    target = {"boxes": boxes(*objects), "labels": torch.ones(len(objects), dtype=torch.int64)}
    target["iscrowd"] = torch.tensor([int(i in difficult) for i in range(len(objects))], dtype=torch.int64)
    labels = torch.ones(len(found), dtype=torch.int64)
    return {"boxes": boxes(*found), "labels": labels, "scores": torch.tensor(scores)}, target


def ap(*images, points=None):
    return voc_ap([found for found, _ in images], [target for _, target in images], ["a", "b"], points=points)


def test_by_hand():
    # Right, false (nothing there), right, of three objects: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3.
    found = ap(image([0, 100, 200], [0, 50, 100], [0.9, 0.8, 0.7]))
    assert found["a"] == pytest.approx(100 * (1 / 3 + 1 / 3 * 2 / 3))
    assert found["b"] is None
    eleven = ap(image([0, 100, 200], [0, 50, 100], [0.9, 0.8, 0.7]), points=11)
    assert eleven["a"] == pytest.approx(100 * (4 * 1 + 3 * 2 / 3) / 11)  # recalls 0 to 0.3, then 0.4 to 0.6


def test_a_second_detection_of_an_object_is_false_even_where_another_is_near():
    # The third overlaps the first object most, which is taken; COCO would give it the second, at 3 pixels.
    one = image([0, 3], [0, 1], [0.9, 0.8])
    assert ap(one)["a"] == pytest.approx(50)


def test_what_is_difficult_counts_neither_way():
    assert ap(image([0, 100], [100, 0], [0.9, 0.8], difficult=[1]))["a"] == pytest.approx(100)
    assert ap(image([0], [0], [0.9], difficult=[0]))["a"] is None


def test_detections_of_all_images_are_ranked_together():
    first, second = image([0], [50], [0.9]), image([0], [0], [0.8])
    assert ap(first, second)["a"] == pytest.approx(100 * (1 / 2 * 1 / 2))
    assert ap(image([0], [], []))["a"] == 0
