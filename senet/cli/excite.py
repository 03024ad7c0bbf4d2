"""senet excite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from senet.cli.options import DataDir, Weights
from senet.cli.progress import telling
from senet.options import parse_assignments

__all__ = ["COMMANDS"]


def excite(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A run's folder, a weights file, or a network with weights: seresnet50.ra2_in1k."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the page, its figures and the numbers.")],
    data: DataDir = None,
    classes: Annotated[
        str | None,
        typer.Option(metavar="CLASS,...", help="Classes to draw; else goldfish, pug, plane, cliff of ImageNet's."),
    ] = None,
    blocks: Annotated[str, typer.Option(metavar="GLOB", help="Blocks to look at, for example 'layer4.*'.")] = "*",
    limit: Annotated[
        int, typer.Option(min=2, help="Images that the network runs on again for every block, drawn at random.")
    ] = 2000,
    images: Annotated[int, typer.Option(min=0, help="Single images to look at.")] = 4,
    weights: Weights = "model",
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="How images reach the network, for example size=320."),
    ] = None,
) -> None:
    """Look at what the gates of a trained network do, and what it loses without them."""
    from senet.analysis.lab.page import check_folder, write_excitation
    from senet.cli.show_excite import print_excitation
    from senet.study.excitation import excite_trained
    from senet.train.trained import read_trained

    check_folder(out)  # not to be found wrong after an hour
    trained = read_trained(run, weights=weights, changes=parse_assignments(change or []))
    chosen = None if classes is None else [name.strip() for name in classes.split(",")]
    with telling() as progress:
        found = excite_trained(
            trained, data, name=run, chosen=chosen, blocks=blocks, limit=limit, portraits=images, progress=progress
        )
    page, numbers = write_excitation(found, out)
    print_excitation(found)
    typer.echo(f"\nThe page: {page}\nThe figures: {page.parent / 'figures'}\nThe numbers: {numbers}")


COMMANDS: dict[Callable[..., None], str] = {
    excite: "senet excite runs/seresnet20 --out excitation",
}
