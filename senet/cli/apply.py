"""senet eval, senet predict."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from senet.cli.options import AsJson, DataDir, Weights
from senet.cli.progress import ConsoleWatch
from senet.cli.show import print_evaluation, print_predictions
from senet.errors import InputError
from senet.options import parse_assignments

__all__ = ["COMMANDS"]

RunPath = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run's folder, a weights file, or a network with weights: seresnet50.a1_in1k."
    ),
]
How = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="How images reach the network, for example size=320; repeatable."),
]
_TOP = 3  # classes


def eval_(
    run: RunPath,
    data: DataDir = None,
    weights: Weights = "model",
    change: How = None,
    voc: Annotated[bool, typer.Option("--voc-ap", help="Of a detector: VOC's average precision, not COCO's.")] = False,
    detections: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of a detector: write what it finds as COCO's results.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a trained network on images in class folders (a detector: with boxes), or on its validation images."""
    from senet.train.tasks import task_in

    if task_in(run) == "detection":
        from senet.cli.detection import evaluate

        changes = parse_assignments(change or [])
        evaluate(run, data, weights, changes, voc=voc, detections=detections, as_json=as_json)
        return
    if voc or detections is not None:
        raise InputError(f"--voc-ap and --detections are for detectors, and {run} is none; leave them out")
    from senet.train.apply import evaluate_run
    from senet.train.trained import read_trained

    trained = read_trained(run, weights=weights, changes=parse_assignments(change or []))
    watch = ConsoleWatch()
    try:
        result = evaluate_run(trained, data, progress=watch.loading)
    finally:
        watch.close()
    if as_json:
        typer.echo(json.dumps({**asdict(result), "classes": list(trained.classes)}))
    else:
        print_evaluation(result, trained.classes)


def predict(
    run: RunPath,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    top: Annotated[
        int | None, typer.Option(min=1, help="Of a classifier: how many classes to print.", show_default=str(_TOP))
    ] = None,
    weights: Weights = "model",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of a detector: a folder for the images with their boxes.")
    ] = None,
    change: How = None,
    as_json: AsJson = False,
) -> None:
    """Say what is in images: classes and probabilities, or of a detector boxes, as JSON, a line an image."""
    from senet.train.tasks import task_in

    if task_in(run) == "detection":
        from senet.cli.detection import predict

        if top is not None:
            raise InputError(f"--top is for classifiers, and {run} is a detector; leave it out")
        predict(run, images, out, weights, parse_assignments(change or []))
        return
    if out is not None:
        raise InputError(f"--out is for pictures with boxes, and {run} is no detector; leave it out")
    from senet.train.apply import predict_image
    from senet.train.trained import read_trained

    trained = read_trained(run, weights=weights, changes=parse_assignments(change or []))
    found, errors = {}, []
    for image in images:
        try:
            found[str(image)] = predict_image(trained, image, top=top or _TOP)
        except InputError as error:  # the other images are still wanted
            errors.append(str(error))
    if as_json:
        rows = {name: [{"class": label, "probability": p} for label, p in best] for name, best in found.items()}
        typer.echo(json.dumps(rows, indent=2))
    else:
        print_predictions(found)
    if errors:
        raise InputError("; ".join(errors))


COMMANDS: dict[Callable[..., None], str] = {
    eval_: "senet eval runs/seresnet20 --data DIR",
    predict: "senet predict cifar_seresnet8.fashion_mnist shoe.jpg",
}
