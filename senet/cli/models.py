"""senet models, senet info."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from senet.cli.options import AsJson
from senet.cli.progress import counting
from senet.cli.show import (
    print_complexity,
    print_equation_5,
    print_models,
    print_options,
    print_published,
    print_records,
    print_weights,
)
from senet.errors import InputError, did_you_mean
from senet.options import parse_assignments, to_plain

__all__ = ["COMMANDS"]


class Order(StrEnum):
    """Sort keys of the catalogue."""

    name = "name"
    parameters = "parameters"
    multiply_adds = "multiply-adds"
    error = "error"


def models(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="A shell pattern, for example 'se*50*'.")] = "*",
    sort: Annotated[Order, typer.Option(help="By what; networks that lack it come last.")] = Order.name,
    attn: Annotated[str | None, typer.Option(help="Only networks with this block, for example se; or none.")] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Only networks with pretrained weights.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the networks that can be built: what they cost, their published error, weights there are, their source."""
    from senet.analysis.catalogue import catalogue
    from senet.blocks import BLOCKS
    from senet.models import list_models, model_entry
    from senet.models.weights.pretrained import weights_of

    known = ["none", *BLOCKS]
    if attn is not None and attn not in known:
        raise InputError(f"no block is called {attn!r}{did_you_mean(attn, known)}")
    names = [name for name in list_models(pattern) if attn in (None, model_entry(name).config.attn or "none")]
    if pretrained:
        names = [name for name in names if weights_of(name)]
    if not names:
        raise InputError(f"no model matches {pattern!r} and what else is asked for; `senet models` lists all")
    with counting(len(names), "counting networks") as progress:
        rows = catalogue(names, progress=progress)
    key = sort.name
    rows.sort(key=lambda row: (getattr(row, key) is None, getattr(row, key), row.name))
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        print_models(rows)


def info(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A name from `senet models`, or one of weights: seresnet50.a1_in1k."),
    ],
    size: Annotated[int | None, typer.Option(min=1, help="Height and width; else what it is made for.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change an option, for example placement=pre; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a network costs by stage, what was published about it, which weights there are, and its options.

    With the tag of weights, only those are told of; the network is the same.
    """
    import torch

    from senet.analysis.catalogue import published
    from senet.analysis.complexity import count, equation_5
    from senet.models import create_model, model_config, model_entry
    from senet.models.weights.own.records import read_records
    from senet.models.weights.pretrained import find_weight, weights_of

    model, _, tag = model.partition(".")
    options = parse_assignments(change or [])
    config = model_config(model, options)
    image = (size, size) if size else model_entry(model).image
    with torch.device("meta"):
        net = create_model(model, **{"num_classes": config.num_classes, "in_chans": config.in_chans, **options})
    complexity = count(net, (config.in_chans, *image))
    equation = equation_5(net) if config.attn in (None, "se") else ()
    figures = published(model, options)
    weights = (find_weight(model, tag),) if tag else weights_of(model)
    records = [record for record in read_records() if record.model == model and tag in ("", record.tag)]
    if as_json:
        told = {
            "model": model,
            "source": model_entry(model).source,
            "size": image[0],
            "width": image[1],
            "config": to_plain(config),
            **asdict(complexity),
            "equation_5": [asdict(stage) for stage in equation],
            "published": to_plain(figures),
            "weights": to_plain(weights),
            "records": to_plain(records),
        }
        typer.echo(json.dumps(told, default=str))
        return
    print_complexity(model, image, complexity)
    print_equation_5(equation)
    print_published(figures)
    print_weights(weights)
    print_records(records)
    typer.echo(f"Source: {model_entry(model).source}")
    print_options(to_plain(config))


COMMANDS: dict[Callable[..., None], str] = {
    models: "senet models 'se*' --sort multiply-adds",
    info: "senet info seresnet50 --set placement=pre",
}
