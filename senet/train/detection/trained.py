"""A trained detector with what is needed to use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from senet.errors import InputError, did_you_mean
from senet.models.detection.config import DetectorConfig
from senet.models.weights.files import load_into, read_tensors
from senet.options import override
from senet.train.data.images import read_image
from senet.train.detection.box_set import BoxSet
from senet.train.detection.evaluate import DetectionScore, evaluate
from senet.train.detection.loader import BoxLoader
from senet.train.detection.recipe import DetectionRecipe
from senet.train.detection.sources import load_boxes, load_boxes_eval
from senet.train.detection.start import build_detector
from senet.train.detection.voc_ap import voc_ap
from senet.train.memory import keep_freed_memory
from senet.train.tasks import load_recipe, read_recipe

if TYPE_CHECKING:
    from senet.models.detection.network import Detector

__all__ = [
    "DetectedObject",
    "TrainedDetector",
    "as_results",
    "boxes_of",
    "detect",
    "detections_in",
    "evaluate_detector",
    "read_detector",
    "voc_of",
]

# What of a detector decides no weight, and may so be changed when it is used.
_HOW = ("min_size", "max_size", "score_threshold", "nms_threshold", "detections", "proposals")


@dataclass(frozen=True)
class TrainedDetector:
    """A trained detector and what is needed to use it.

    Attributes:
        model: in evaluation mode.
        recipe: of its run, with the size of images that it is evaluated at.
        classes: names; label 1 is the first.
        category_ids: of the classes in the data set.
        info: what its file says besides.
    """

    model: Detector
    recipe: DetectionRecipe
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    info: dict[str, Any]


@dataclass(frozen=True)
class DetectedObject:
    """An object that a detector has found.

    Attributes:
        box: left, top, right, bottom in pixels of the image.
        name: of the class.
        category_id: of the class in the data set.
        score: from 0 to 1.
    """

    box: tuple[float, float, float, float]
    name: str
    category_id: int
    score: float


def read_detector(
    what: str | Path, *, weights: str = "model", changes: Mapping[str, Any] | None = None
) -> TrainedDetector:
    """The detector of a run.

    Args:
        what: the run's folder, or a file of its weights.
        weights: in a folder, ``"model"`` for the last epoch's weights or ``"best"``.
        changes: ``min_size``, ``max_size``, ``score_threshold``, ``nms_threshold``, ``detections``, ``proposals``, or
            ``workers``; else they are those of the training.

    Raises:
        InputError: there is no such thing, it is no detector's, or its weights are cut off.
    """
    if weights not in ("model", "best"):
        raise InputError(f"weights is {weights!r}; accepted: 'model' (of the last epoch), 'best'")
    given, path = dict(changes or {}), Path(what)
    if unknown := given.keys() - {*_HOW, "workers"}:
        name = min(unknown)
        raise InputError(f"how images reach a detector has no field {name!r}{did_you_mean(name, [*_HOW, 'workers'])}")
    folder = path.is_dir()
    if folder and not (path / f"{weights}.safetensors").is_file():
        raise InputError(f"{path} holds no {weights}.safetensors: its run has not finished an epoch")
    file = path / f"{weights}.safetensors" if folder else path
    tensors, info = read_tensors(file)
    recipe = read_recipe(info.get("recipe"), what=f"the recipe in {file}")
    if not isinstance(recipe, DetectionRecipe):
        raise InputError(f"{file} is of a {recipe.task} training; give the run of a detector")
    if folder:  # a run resumed with moved images knows where they are now
        recipe = override(recipe, {"data.root": load_recipe(path / "recipe.json").data.root}, what="recipe")
    named = {("data." if name == "workers" else "detector.") + name: value for name, value in given.items()}
    recipe = _keep_anchors(recipe).override(named)
    classes, ids = info.get("classes"), info.get("category_ids")
    if not isinstance(classes, list) or not isinstance(ids, list) or len(classes) != len(ids):
        raise InputError(f"{file} does not name its classes with their ids, which a detector's file does")
    model = build_detector(recipe, len(classes))
    load_into(model, tensors, what=str(file))
    return TrainedDetector(model.eval(), recipe, tuple(classes), tuple(ids), info)


def _keep_anchors(recipe: DetectionRecipe) -> DetectionRecipe:
    """The recipe with the size of its anchors said: at other images they are still those that were learnt with."""
    detector: DetectorConfig = replace(recipe.detector, anchor_scale=recipe.detector.anchor_strides)
    return replace(recipe, detector=detector)


def boxes_of(trained: TrainedDetector, data: Path | None = None) -> BoxSet:
    """The images to judge a detector by.

    Args:
        trained: the detector.
        data: a folder in COCO's or VOC's layout; None: those that were held out in the training.

    Raises:
        InputError: they are gone, not the same any more, or of other classes.
    """
    masks = trained.recipe.detector.masks
    if data is not None:
        spec = replace(trained.recipe.data, root=str(data))
        return load_boxes_eval(spec, trained.classes, trained.category_ids, masks=masks)
    _, held = load_boxes(trained.recipe.data, masks=masks)
    if trained.info.get("images", {}).get("val") != held.fingerprint:
        raise InputError(
            f"the held-out images of {trained.recipe.data.root} are not those of the training any more; restore them, "
            "or name a folder with --data"
        )
    return held


@torch.inference_mode()
def detections_in(
    trained: TrainedDetector, images: BoxSet, *, progress: Callable[[int, int], None] | None = None
) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Returns detections and true objects of each image, boxes alone; ``progress`` is told how many of how many."""
    found, truth = [], []
    for batch, targets in _batches(trained, images, progress):
        found += [{name: one[name].cpu() for name in ("boxes", "labels", "scores")} for one in trained.model(batch)]
        truth += [{name: value.cpu() for name, value in one.items() if name != "masks"} for one in targets]
    return found, truth


def as_results(trained: TrainedDetector, images: BoxSet, found: Sequence[dict[str, Tensor]]) -> list[dict[str, Any]]:
    """Detections as COCO's results: ids of images and categories as in the data set, left, top, width and height."""
    results = []
    for image, one in zip(images.ids, found, strict=True):
        sizes = torch.cat([one["boxes"][:, :2], one["boxes"][:, 2:] - one["boxes"][:, :2]], 1)
        for box, label, score in zip(sizes.tolist(), one["labels"].tolist(), one["scores"].tolist(), strict=True):
            category = trained.category_ids[label - 1]
            results.append({"image_id": image, "category_id": category, "bbox": box, "score": score})
    return results


def voc_of(
    trained: TrainedDetector, found: Sequence[dict[str, Tensor]], truth: Sequence[dict[str, Tensor]]
) -> dict[str, dict[str, float | None]]:
    """VOC's average precision of boxes, class by class: ``"2010"`` by all recalls, ``"2007"`` by eleven."""
    return {
        year: voc_ap(found, truth, trained.classes, points=points) for year, points in (("2010", None), ("2007", 11))
    }


def evaluate_detector(
    trained: TrainedDetector, images: BoxSet, *, progress: Callable[[int, int], None] | None = None
) -> DetectionScore:
    """Evaluates a detector on images, on the GPU where there is one; ``progress`` is told how many of how many."""
    batches = _batches(trained, images, progress)
    masks = trained.recipe.detector.masks
    return evaluate(trained.model, batches, trained.classes, trained.category_ids, masks=masks)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _batches(
    trained: TrainedDetector, images: BoxSet, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[list[Tensor], list[dict[str, Tensor]]]]:
    keep_freed_memory()
    trained.model.to(_device())
    loader = BoxLoader(images, trained.recipe, train=False, device=_device())
    for number, batch in enumerate(loader.batches(0), 1):
        yield batch
        if progress is not None:
            progress(number, len(images))


@torch.inference_mode()
def detect(trained: TrainedDetector, path: Path) -> tuple[Tensor, list[DetectedObject]]:
    """An image, (3, H, W) uint8, and what is found in it, surest first.

    Raises:
        InputError: the image cannot be read; says why.
    """
    image = read_image(path, 3)
    device = next(trained.model.parameters()).device
    found = trained.model([image.to(device).float().div_(255)])[0]
    detections = [
        DetectedObject(
            (box[0], box[1], box[2], box[3]), trained.classes[label - 1], trained.category_ids[label - 1], score
        )
        for box, label, score in zip(
            found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True
        )
    ]
    return image, detections
