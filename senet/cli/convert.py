"""senet convert."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from senet.cli.options import AsJson
from senet.options import parse_assignments

__all__ = ["COMMANDS"]


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help=".safetensors, .pth and its kin, .onnx, or the authors' .caffemodel.")
    ],
    target: Annotated[Path, typer.Argument(metavar="DST", help="A .safetensors file, written whole or not at all.")],
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The network; needed where the file leaves it open.")
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            metavar="LAYOUT",
            help="Whose names to write: senet, timm, timm-legacy (Cadene's too), torchvision, pytorchcv, tutorial ...",
        ),
    ] = "senet",
    layout: Annotated[
        str | None, typer.Option("--from", metavar="LAYOUT", help="Whose names SRC has; told by the names if left out.")
    ] = None,
    entry: Annotated[
        str | None, typer.Option(help="Which entry of a checkpoint to take, for example state_dict_ema.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(help="Weights on the hub with the same preprocessing and classes: seresnet50.a1_in1k."),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="An option of the network, for example stride_in=1x1."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rename the weights in a file: from timm, torchvision, pytorchcv ... to this package's names, or back."""
    from senet.models.weights.convert import convert as convert_file

    options = parse_assignments(change or [])
    done = convert_file(source, target, model, options=options, to=to, layout=layout, entry=entry, like=like)
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    typer.echo(f"{done.model}: {done.tensors} tensors, {done.layout} -> {done.to}, in {target}")
    if done.taken:
        typer.echo(f"Unwrapped: {', '.join(done.taken)}")
    if done.unread:
        typer.echo(f"Not read, as they are no tensors: {', '.join(done.unread)}")
    if done.dropped:
        modules = sorted({key.partition(".")[0] for key in done.dropped})
        typer.echo(f"Left out, for training only: {', '.join(modules)}")
    if done.doubt:
        typer.echo(f"Make sure that it is this network, which no tensor shows: of {done.layout}, {done.doubt}")


COMMANDS: dict[Callable[..., None], str] = {
    convert: "senet convert resnet50-11ad3fa6.pth resnet50.safetensors --model resnet50",
}
