"""Data of the report on detectors: precision over recall, and images with objects found, missed and false."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from senet.analysis.content import Scene
from senet.train.data.images import read_image
from senet.train.detection.box_set import BoxSet
from senet.train.detection.matching import match
from senet.train.detection.pictures import draw
from senet.train.detection.trained import TrainedDetector, boxes_of, detect, read_detector

__all__ = ["FALSE", "FOUND", "MISSED", "scenes"]

FOUND, MISSED, FALSE = "#0f9173", "#2a7fc9", "#d5650f"

SCENES = 6  # images
SURE = 0.5  # score from which a detection counts here
WIDTH = 420  # pixels of a picture


def scenes(runs: Mapping[str, Path]) -> list[Scene]:
    """Some held-out images, evenly spread over all, as the detector of each run sees them.

    Args:
        runs: by the name that the report files them under, the folders.

    Raises:
        InputError: the images are gone, or are not those of the training any more.
    """
    trained = {run: read_detector(folder) for run, folder in runs.items()}
    images = boxes_of(next(iter(trained.values())))
    count = min(SCENES, len(images))
    return [_scene(images, index * len(images) // count, trained) for index in range(count)]


def _scene(images: BoxSet, index: int, trained: Mapping[str, TrainedDetector]) -> Scene:
    of = images.of(index)
    true_boxes, true_labels = torch.from_numpy(images.boxes[of]), torch.from_numpy(images.labels[of])
    crowd = torch.from_numpy(images.crowd[of])
    pictures, counts = {}, {}
    image = read_image(images.paths[index], 3)
    for run, detector in trained.items():
        _, found = detect(detector, images.paths[index])
        sure = [one for one in found if one.score >= SURE]
        boxes = torch.tensor([one.box for one in sure]).reshape(-1, 4)
        labels = torch.tensor([detector.classes.index(one.name) + 1 for one in sure], dtype=torch.int64)
        matches = match(boxes, labels, true_boxes, true_labels, crowd)
        lines = [(true_boxes[i].tolist(), images.classes[int(true_labels[i]) - 1], MISSED) for i in matches.missed]
        lines += [(list(sure[i].box), "", FOUND) for i in matches.found]
        lines += [(list(sure[i].box), sure[i].name, FALSE) for i in matches.false]
        drawn = draw(
            image, [box for box, _, _ in lines], [name for _, name, _ in lines], [colour for _, _, colour in lines],
            scale=WIDTH / image.shape[-1],
        )  # fmt: skip
        pictures[run] = drawn.permute(1, 2, 0).contiguous()
        counts[run] = (len(matches.found), len(matches.missed), len(matches.false))
    return Scene(images.names[index], pictures, counts)
