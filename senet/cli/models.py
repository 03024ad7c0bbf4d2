"""senet models, senet info."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

import typer

from senet.cli.options import AsJson
from senet.cli.show import print_complexity, print_models
from senet.errors import InputError
from senet.options import parse_assignments, to_plain

__all__ = ["COMMANDS"]


def models(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="A shell pattern, for example 'se*50*'.")] = "*",
    as_json: AsJson = False,
) -> None:
    """List the networks that can be built."""
    import torch

    from senet.models import create_model, list_models

    names = list_models(pattern)
    if not names:
        raise InputError(f"no model matches {pattern!r}; `senet models` lists all")
    rows = []
    for name in names:
        with torch.device("meta"):
            model = create_model(name)
        rows.append({"name": name, "parameters": sum(p.numel() for p in model.parameters())})
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        print_models(rows)


def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A name that `senet models` lists.")],
    size: Annotated[int | None, typer.Option(min=1, help="Height and width; 224, or 32 for CIFAR networks.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change an option, for example placement=pre; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count a network's parameters and multiply-adds, stage by stage, and its blocks' share."""
    import torch

    from senet.analysis.complexity import count
    from senet.models import create_model, model_config, model_entry

    options = parse_assignments(change or [])
    config = model_config(model, options)
    side = size or model_entry(model).size
    with torch.device("meta"):
        net = create_model(model, **{"num_classes": config.num_classes, "in_chans": config.in_chans, **options})
    complexity = count(net, (config.in_chans, side, side))
    if as_json:
        typer.echo(json.dumps({"model": model, "size": side, "config": to_plain(config), **asdict(complexity)}))
    else:
        print_complexity(model, side, complexity)
        typer.echo("Options: " + ", ".join(f"{name}={value}" for name, value in to_plain(config).items()))


COMMANDS: dict[Callable[..., None], str] = {
    models: "senet models 'se*50*'",
    info: "senet info seresnet50 --set placement=pre",
}
