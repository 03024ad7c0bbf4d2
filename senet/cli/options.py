"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["AsJson", "Changes", "DataDir", "Weights"]

DataDir = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="The data set's own files, or a folder of class folders."),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Change a field, for example optim.lr=0.05. May be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Weights = Annotated[str, typer.Option(help="Which weights of the run: model (last epoch) or best.")]
