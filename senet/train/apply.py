"""A trained network on images: its score on a set of them, its word on a single one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torchvision.models import ResNet50_Weights

from senet.errors import InputError
from senet.models.weights.caffe import ilsvrc2012_synsets
from senet.train.data import ImageSet, fingerprint_of, load_eval, load_split, make_loader, read_image, to_input
from senet.train.evaluate import Evaluation, evaluate
from senet.train.memory import keep_freed_memory
from senet.train.recipe import Data
from senet.train.trained import Trained

__all__ = ["evaluate_run", "held_out", "images_of", "predict_image", "readable"]


def held_out(trained: Trained, *, progress: Callable[[int, int], None] | None = None) -> ImageSet:
    """The images that a network was judged by in its training.

    Raises:
        InputError: they are gone, or are not the same any more; or nobody knows them, as of weights of others.
    """
    if trained.recipe is None:
        raise InputError("these weights do not come from a run, so none held out are known; name images with --data")
    images = load_split(trained.data, "val", progress=progress)
    if trained.info.get("images", {}).get("val") != images.fingerprint:
        raise InputError(
            f"the held-out images of {trained.data.root or trained.data.source} are not those of the "
            "training any more; restore them, or name a folder with --data: theirs where they were moved, or others"
        )
    return images


def images_of(
    trained: Trained, data: Path | None = None, *, progress: Callable[[int, int], None] | None = None
) -> ImageSet:
    """The images to judge a trained network by, their labels counted along its classes.

    Args:
        trained: the network, with the recipe that says how images are brought to it.
        data: a folder of class folders, or the data set's own files. None, or the images it was trained on, wherever
            they lie now: those held out in the training, so that none it has learnt from counts.
        progress: is told how many images of how many are decoded.

    Raises:
        InputError: there are no such images, or their classes are not the network's. Where a network's classes have
            no names, the folders are taken for them in the order of theirs.
    """
    if data is None:
        images = held_out(trained, progress=progress)
    else:
        spec = replace(trained.data, root=str(data))
        own = _holds_own(trained, spec)
        images = (
            load_split(spec, "val", progress=progress)
            if own
            else load_eval(spec, classes=trained.classes if trained.named else None, progress=progress)
        )
    if len(images.classes) != len(trained.classes):
        raise InputError(
            f"{data} has {len(images.classes)} class folders for a network of {len(trained.classes)} classes, whose "
            "names nobody says; give a folder for each, in the order of its outputs when sorted by name"
        )
    return images


def evaluate_run(
    trained: Trained, data: Path | None = None, *, progress: Callable[[int, int], None] | None = None
) -> Evaluation:
    """Evaluates a trained network, on the GPU where there is one; arguments and errors are :func:`images_of`'s."""
    images = images_of(trained, data, progress=progress)
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loader = make_loader(images, trained.data, train=False, seed=0, device=device)
    return evaluate(trained.model.to(device), loader.batches(0), len(trained.classes), device)


def _holds_own(trained: Trained, spec: Data) -> bool:
    """Whether the images are those of the training."""
    try:
        return fingerprint_of(spec, "val") == trained.info.get("images", {}).get("val")
    except InputError:  # they cannot even be split as for a training
        return False


@torch.inference_mode()
def predict_image(trained: Trained, path: Path, *, top: int = 3) -> list[tuple[str, float]]:
    """The most probable classes of an image, with their probabilities, most probable first.

    Raises:
        InputError: the image cannot be read; says why.
    """
    spec = trained.data
    image = to_input(read_image(path, spec.channels), spec)
    probabilities = trained.model(image.unsqueeze(0)).softmax(1)[0]
    best = probabilities.topk(min(top, len(trained.classes)))
    names = readable(trained.classes)
    return [(names[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]


def readable(classes: tuple[str, ...]) -> tuple[str, ...]:
    """The names of classes, ImageNet's WordNet ids with their words."""
    if classes != tuple(sorted(ilsvrc2012_synsets())):
        return classes
    words = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]  # in the order of the sorted ids
    return tuple(f"{wordnet} {word}" for wordnet, word in zip(classes, words, strict=True))
