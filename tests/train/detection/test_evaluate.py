"""Average precision against pycocotools, whose numbers are the reference."""

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from senet.train.detection.evaluate import average_precision

CLASSES, IDS = ("a", "b", "c"), (3, 7, 90)


def made_up(images=40, seed=0):
    """Boxes of all sizes, crowds among them; detections that are near to some, and some that are not."""
    chance = np.random.default_rng(seed)
    detections, targets = [], []
    for _ in range(images):
        count = int(chance.integers(0, 6))
        corner, size = chance.uniform(0, 200, (count, 2)), chance.uniform(5, 250, (count, 2))
        boxes = np.concatenate([corner, corner + size], 1)
        labels = chance.integers(1, 4, count)
        crowd = chance.random(count) < 0.1
        noisy = boxes + chance.normal(0, 6, boxes.shape)
        extra = chance.uniform(0, 100, (3, 2))
        found = np.concatenate([noisy, np.concatenate([extra, extra + 40], 1)])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        named = np.concatenate([np.where(chance.random(count) < 0.8, labels, 1), chance.integers(1, 4, 3)])
        targets.append({
            "boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(labels),
            "iscrowd": torch.tensor(crowd.astype(int)), "area": torch.tensor(size.prod(1) * 0.8, dtype=torch.float32),
        })  # fmt: skip
        detections.append({
            "boxes": torch.tensor(found, dtype=torch.float32), "labels": torch.tensor(named),
            "scores": torch.tensor(chance.random(len(found)), dtype=torch.float32),
        })  # fmt: skip
    return detections, targets


def xywh(boxes):
    return torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).double().tolist()


def reference(detections, targets):
    truth, found = [], []
    for number, (target, detection) in enumerate(zip(targets, detections, strict=True), 1):
        for box, label, crowd, area in zip(
            xywh(target["boxes"]), target["labels"], target["iscrowd"], target["area"], strict=True
        ):
            truth.append({
                "id": len(truth) + 1, "image_id": number, "category_id": IDS[int(label) - 1], "bbox": box,
                "iscrowd": int(crowd), "area": float(area),
            })  # fmt: skip
        for box, label, score in zip(xywh(detection["boxes"]), detection["labels"], detection["scores"], strict=True):
            found.append({
                "image_id": number, "category_id": IDS[int(label) - 1], "bbox": box, "score": float(score),
            })  # fmt: skip
    coco = COCO()
    coco.dataset = {
        "info": {}, "images": [{"id": number} for number in range(1, len(targets) + 1)], "annotations": truth,
        "categories": [{"id": i, "name": name} for i, name in zip(IDS, CLASSES, strict=True)],
    }  # fmt: skip
    coco.createIndex()
    judge = COCOeval(coco, coco.loadRes(found), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return judge


def test_equals_pycocotools_to_six_digits(capsys):
    detections, targets = made_up()
    judge, score = reference(detections, targets), average_precision(detections, targets, CLASSES, IDS)
    names = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100"]
    assert [score.numbers[name] for name in names] == pytest.approx(list(100 * judge.stats[:9]), abs=1e-4)
    precision = judge.eval["precision"][:, :, :, 0, -1]
    for index, one in enumerate(score.per_class):
        assert (one["class"], one["category_id"]) == (CLASSES[index], IDS[index])
        assert one["ap"] == pytest.approx(100 * precision[:, :, index].mean(), abs=1e-4)
        assert score.precision[one["class"]] == pytest.approx(list(100 * precision[0, :, index]), abs=1e-4)
    assert score.thresholds == pytest.approx(list(100 * precision.mean((1, 2))), abs=1e-4)
    assert score.best == score.numbers["ap"] > 10
    assert score.images == 40


def test_a_class_without_objects_has_no_score():
    box = {"boxes": torch.tensor([[1.0, 1, 9, 9]]), "labels": torch.tensor([2])}
    target = {**box, "iscrowd": torch.tensor([0]), "area": torch.tensor([64.0])}
    score = average_precision([{**box, "scores": torch.tensor([0.9])}], [target], CLASSES, IDS)
    assert [one["ap"] for one in score.per_class] == [None, pytest.approx(100), None]
    assert score.precision["a"] == []
    assert score.numbers["ap_large"] is None
    assert score.metrics() == {
        "val_ap": pytest.approx(100),
        "val_ap50": pytest.approx(100),
        "val_ap75": pytest.approx(100),
    }


def test_nothing_found_is_nothing_scored():
    target = {
        "boxes": torch.tensor([[1.0, 1, 9, 9]]), "labels": torch.tensor([2]), "iscrowd": torch.tensor([0]),
        "area": torch.tensor([64.0]),
    }  # fmt: skip
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    assert average_precision([empty], [target], CLASSES, IDS).best == 0
