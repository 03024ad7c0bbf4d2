"""A trained network on images: its score on a set of them, its word on a single one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from senet.train.data import load_data, load_eval, make_loader, read_image, to_input
from senet.train.evaluate import Evaluation, evaluate
from senet.train.rundir import Trained

__all__ = ["evaluate_run", "predict_image"]


def evaluate_run(
    trained: Trained, data: Path | None = None, *, progress: Callable[[int, int], None] | None = None
) -> Evaluation:
    """Evaluates a trained network, on the GPU where there is one.

    Args:
        trained: the network, with the recipe that says how images are brought to it.
        data: a folder of class folders, or the data set's own files; None: the recipe's validation images.
        progress: is told how many images of how many are decoded.

    Raises:
        InputError: there are no such images, or their classes are not the network's.
    """
    spec = trained.recipe.data
    if data is None:
        images = load_data(spec, progress=progress)[1].relabel(trained.classes)
    else:
        spec = replace(spec, root=str(data))
        images = load_eval(spec, classes=trained.classes, progress=progress)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loader = make_loader(images, spec, train=False, seed=0, device=device)
    return evaluate(trained.model.to(device), loader.batches(0), len(trained.classes), device)


@torch.inference_mode()
def predict_image(trained: Trained, path: Path, *, top: int = 3) -> list[tuple[str, float]]:
    """The most probable classes of an image, with their probabilities, most probable first.

    Raises:
        InputError: the image cannot be read; says why.
    """
    spec = trained.recipe.data
    image = to_input(read_image(path, spec.channels), spec)
    probabilities = trained.model(image.unsqueeze(0)).softmax(1)[0]
    best = probabilities.topk(min(top, len(trained.classes)))
    return [(trained.classes[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)]
