"""senet tax."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from senet.cli.progress import telling
from senet.errors import InputError

__all__ = ["COMMANDS"]


class Dtype(StrEnum):
    """Data types that the networks compute in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Layout(StrEnum):
    """Memory formats of maps."""

    contiguous = "contiguous"
    channels_last = "channels-last"


def tax(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A name of ours, timm:NAME, torchvision:NAME, detector:NAME (a backbone with its pyramid), or "
            "MODULE:FUNCTION, which gives a network of your own.",
        ),
    ],
    train: Annotated[bool, typer.Option("--train/--infer", help="A step of training, or of inference.")] = True,
    batch: Annotated[int | None, typer.Option(min=1, help="Images; else 8 on a CPU and 64 on a GPU.")] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Height and width; else what the network is made for.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="For example cuda:1; else a GPU where there is one.")] = None,
    dtype: Annotated[
        Dtype, typer.Option(help="In training that of autocast, in inference that of the weights.")
    ] = Dtype.float32,
    layout: Annotated[Layout, typer.Option(help="How maps lie in memory.")] = Layout.contiguous,
    ways: Annotated[
        str | None,
        typer.Option(
            metavar="WAY,...",
            help="eager, compile, fused, fused+compile; for inference also folded, folded+compile, onnxruntime, "
            "openvino; else all that can be had.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How many times of each network are taken.")] = 10,
    sites: Annotated[bool, typer.Option("--sites", help="Also say what each gate adds.")] = False,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all that was measured, every time.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it: a .png, .svg or .pdf, which its name says.")
    ] = None,
) -> None:
    """Measure what squeeze-and-excitation costs here: a network beside its twin without, in time, passes and memory.

    On a CPU the process keeps the memory that it frees, as in `senet train`: page faults would drown the rest.
    """
    import torch

    from senet.analysis.tax.plot import check_plot, plot_tax
    from senet.analysis.tax.tax import tax as measured
    from senet.cli.networks import find_network
    from senet.cli.show_tax import print_sites, print_tax
    from senet.options import to_plain
    from senet.train.memory import keep_freed_memory

    for file in filter(None, (as_json, plot)):  # not to be found wrong after an hour of timing
        if not file.parent.is_dir():
            raise InputError(f"cannot write {file}: there is no folder {file.parent}; make it")
    if plot is not None:
        check_plot(plot)
    network, side = find_network(model)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    keep_freed_memory()
    with telling() as progress:
        found = measured(
            network,
            train=train,
            batch=batch or (8 if device == "cpu" else 64),
            size=size or side,
            device=device,
            dtype=dtype.value,
            layout=layout.value,
            ways=None if ways is None else ways.split(","),
            rounds=rounds,
            progress=progress,
        )
    print_tax(model, found)
    if sites:
        print_sites(found)
    if as_json is not None:
        as_json.write_text(json.dumps({"model": model, **to_plain(found)}, indent=2) + "\n")
        typer.echo(f"All of it: {as_json}")
    if plot is not None:
        plot_tax(model, found, plot)
        typer.echo(f"The picture: {plot}")


COMMANDS: dict[Callable[..., None], str] = {tax: "senet tax timm:seresnet50 --train --batch 16 --plot tax.png"}
