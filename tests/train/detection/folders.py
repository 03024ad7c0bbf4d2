"""Small folders in COCO's and VOC's layout, and a recipe that trains on them in a second or two."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from senet.recipes import get_recipe

CATEGORIES = [{"id": 90, "name": "green"}, {"id": 3, "name": "red"}]  # ids with a gap, not in order
COLOURS = {3: (220, 40, 40), 90: (40, 200, 60)}


def scene(number: int) -> tuple[np.ndarray, list[tuple[int, list[int]]]]:
    """A grey image, wide or high in turn, with coloured rectangles: (category, [left, top, width, height])."""
    chance = np.random.default_rng(number)
    height, width = ((48, 64), (64, 48))[number % 2]
    pixels = chance.integers(90, 130, (height, width, 3), dtype=np.uint8)
    boxes = []
    for category in (3, 90)[: 1 + number % 2]:
        w, h = (int(x) for x in chance.integers(14, 24, 2))
        left = int(chance.integers(0, width // 2 - 8)) + (0 if category == 3 else width // 3)
        left, top = min(left, width - w), int(chance.integers(0, height - h))
        pixels[top : top + h, left : left + w] = COLOURS[category]
        boxes.append((category, [left, top, w, h]))
    return pixels, boxes


def write_coco(
    root: Path, *, train: int = 6, val: int = 4, change: Callable[[dict[str, Any]], None] | None = None
) -> Path:
    """A folder in COCO's layout; ``change`` may do anything to the annotations to train on before they are written."""
    (root / "annotations").mkdir(parents=True)
    first = 0
    for split, count in (("train2017", train), ("val2017", val)):
        (root / split).mkdir()
        content: dict[str, Any] = {"images": [], "annotations": [], "categories": CATEGORIES}
        for number in range(first, first + count):
            pixels, boxes = scene(number)
            Image.fromarray(pixels).save(root / split / f"{number:04}.png")
            height, width = pixels.shape[:2]
            image = {"id": 100 + number, "file_name": f"{number:04}.png", "height": height, "width": width}
            content["images"].append(image)
            for category, (left, top, w, h) in boxes:
                outline = [left, top, left + w, top, left + w, top + h, left, top + h]
                content["annotations"].append({
                    "id": 1000 + len(content["annotations"]), "image_id": 100 + number, "category_id": category,
                    "bbox": [left, top, w, h], "area": w * h, "iscrowd": 0, "segmentation": [outline],
                })  # fmt: skip
        first += count
        if change is not None and split == "train2017":
            change(content)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def write_voc(root: Path, *, train: int = 6, val: int = 4) -> Path:
    """The same images in VOC's layout."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    names = {3: "red", 90: "green"}
    for number in range(train + val):
        pixels, boxes = scene(number)
        Image.fromarray(pixels).save(root / "JPEGImages" / f"{number:04}.png")
        things = "".join(
            f"<object><name>{names[c]}</name><difficult>0</difficult><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}</ymin>"
            f"<xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
            for c, (x, y, w, h) in boxes
        )
        height, width = pixels.shape[:2]
        (root / "Annotations" / f"{number:04}.xml").write_text(
            f"<annotation><filename>{number:04}.png</filename><size><width>{width}</width><height>{height}</height>"
            f"<depth>3</depth></size>{things}</annotation>"
        )
    for split, numbers in (("train", range(train)), ("val", range(train, train + val))):
        (root / f"ImageSets/Main/{split}.txt").write_text("".join(f"{number:04}\n" for number in numbers))
    return root


def tiny_recipe(root: Path, **changes: Any) -> Any:
    """Two epochs of three steps of two images."""
    return get_recipe("detection.seresnet18_small").override(
        {
            "model.options": {"depths": [1, 1, 1, 1], "planes": [8, 8, 16, 16]}, "data.root": str(root),
            "data.batch_size": 2, "data.workers": 0,
            "schedule.epochs": 2, "run.log_every": 2, "detector.min_size": 48, "detector.max_size": 64,
            "detector.fpn_channels": 8, "detector.head_channels": 16, "detector.proposals": 20, "detector.regions": 16,
            **changes,
        }
    )  # fmt: skip
