"""Evaluation and prediction of a detector, for senet eval and senet predict."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from PIL import Image

from senet.analysis.svg import SERIES
from senet.cli.progress import counting
from senet.cli.show import print_detection_score, print_voc_ap
from senet.errors import InputError
from senet.files import write_whole
from senet.train.detection.evaluate import DetectionScore, average_precision
from senet.train.detection.pictures import draw
from senet.train.detection.trained import (
    as_results,
    boxes_of,
    detect,
    detections_in,
    evaluate_detector,
    read_detector,
    voc_of,
)

__all__ = ["evaluate", "predict"]

_DRAWN = 0.5  # score from which a box is drawn; the lines have all that the detector gives


def evaluate(
    run: str,
    data: Path | None,
    weights: str,
    changes: Mapping[str, Any],
    *,
    voc: bool,
    detections: Path | None,
    as_json: bool,
) -> None:
    """Prints the average precision of a detector, class by class: COCO's, or VOC's; and may write what it finds."""
    if detections is not None and not detections.parent.is_dir():  # not only after all images
        raise InputError(f"cannot write {detections}: there is no folder {detections.parent}; make it")
    trained = read_detector(run, weights=weights, changes=changes)
    images = boxes_of(trained, data)
    for note in images.notes:
        typer.echo(note, err=True)
    if not voc and detections is None:
        with counting(len(images), "detecting") as progress:
            score = evaluate_detector(trained, images, progress=progress)
        _tell(score, as_json=as_json)
        return
    with counting(len(images), "detecting") as progress:
        found, truth = detections_in(trained, images, progress=progress)
    if detections is not None:
        write_whole(detections, json.dumps(as_results(trained, images, found)).encode())
    if not voc:
        _tell(average_precision(found, truth, trained.classes, trained.category_ids), as_json=as_json)
        return
    scores = voc_of(trained, found, truth)
    if as_json:
        typer.echo(json.dumps({f"voc{year}_ap": per_class for year, per_class in scores.items()}))
    else:
        print_voc_ap(scores)


def _tell(score: DetectionScore, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({**score.summary(), "images": score.images}))
    else:
        print_detection_score(score)


def predict(run: str, images: list[Path], out: Path | None, weights: str, changes: Mapping[str, Any]) -> None:
    """Prints what is found in images, a line of JSON each, and draws it where a folder is given."""
    trained = read_detector(run, weights=weights, changes=changes)
    if out is not None:
        if twice := next((name for name, count in Counter(image.stem for image in images).items() if count > 1), None):
            raise InputError(f"two of the images are called {twice}, and pictures are by name; give one at a time")
        if inside := next((image for image in images if image.resolve().parent == out.resolve()), None):
            raise InputError(f"--out {out} is the folder of {inside}, which would be overwritten; give another")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write into {out}: {error.strerror}; name another folder with --out") from None
    errors = []
    for path in images:
        try:
            image, found = detect(trained, path)
        except InputError as error:  # the other images are still wanted
            errors.append(str(error))
            continue
        boxes = [
            {"box": list(one.box), "class": one.name, "category_id": one.category_id, "score": one.score}
            for one in found
        ]
        typer.echo(json.dumps({"image": str(path), "boxes": boxes}))
        if out is not None:
            shown = [one for one in found if one.score >= _DRAWN]
            labels = [f"{one.name} {100 * one.score:.0f} %" for one in shown]
            colours = [SERIES[trained.classes.index(one.name) % len(SERIES)] for one in shown]
            drawn = draw(image, [one.box for one in shown], labels, colours)
            Image.fromarray(drawn.permute(1, 2, 0).numpy()).save(out / f"{path.stem}.png")
    if errors:
        raise InputError("; ".join(errors))
