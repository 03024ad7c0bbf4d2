"""senet reproduce."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from senet.cli.options import AsJson, Changes, DataDir
from senet.cli.progress import ConsoleWatch, counting
from senet.cli.show_claims import print_claims, print_evaluated, print_tables, print_trainings
from senet.errors import InputError, did_you_mean
from senet.options import parse_assignments

if TYPE_CHECKING:
    from senet.published import Figure

__all__ = ["COMMANDS"]


class Check(StrEnum):
    """How a table is checked."""

    complexity = "complexity"
    train = "train"
    weights = "weights"


class Scale(StrEnum):
    """At which scale it is trained."""

    small = "small"
    paper = "paper"


def reproduce(
    table: Annotated[
        str | None,
        typer.Argument(
            metavar="[TABLE]", help="table2, figure4, 'text: overhead' ...; left out: all. `--list` names them."
        ),
    ] = None,
    edition: Annotated[str, typer.Option(help="tpami, cvpr, preprint-v3, release or others.")] = "tpami",
    check: Annotated[
        Check,
        typer.Option(
            help="complexity: sizes, and what follows from other figures. train: train the rows. weights: evaluate "
            "pretrained ones on --data."
        ),
    ] = Check.complexity,
    scale: Annotated[
        Scale, typer.Option(help="train: small networks on small images, or the paper's own recipes.")
    ] = Scale.small,
    on: Annotated[
        str | None, typer.Option(help="small: cifar10, cifar100, fashion-mnist, or folder with --data DIR.")
    ] = None,
    data: DataDir = None,
    seeds: Annotated[int, typer.Option(min=1, help="train: how many seeds an arm.")] = 5,
    jobs: Annotated[int | None, typer.Option(min=1, help="train: runs at a time; else one a GPU or a core.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="train: of each run on the CPU.")] = 1,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="train: folder of runs and results; the same again goes on.")
    ] = Path("runs/reproduce"),
    change: Changes = None,
    list_: Annotated[bool, typer.Option("--list", help="What can be checked how, and what was run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check the paper's tables: sizes by counting, errors by training, pretrained weights by evaluating them."""
    if list_:
        _list(table, edition)
    elif check is Check.train:
        _train(table, edition, scale, on, data, seeds, jobs, threads, out, change)
    elif check is Check.weights:
        _weights(table, edition, data, as_json=as_json)
    else:
        _complexity(table, edition, as_json=as_json)


def _complexity(table: str | None, edition: str, *, as_json: bool) -> None:
    from senet.analysis.claims import check_counts, check_figures, countable
    from senet.published import counts, figures

    found = figures() if table is None else _figures(table, edition)
    with counting(sum(map(countable, found)), "comparing figures") as progress:
        claims = list(check_figures(found, progress=progress))
    if table is None:
        with counting(len(counts()), "comparing exact counts") as progress:
            claims += check_counts(progress=progress)
    if as_json:
        typer.echo(json.dumps([asdict(claim) for claim in claims], indent=2))
    else:
        print_claims(claims, whole=table is not None)
        waiting = len(found) - sum(map(countable, found))
        if waiting:
            typer.echo(
                f"{waiting} figures (errors, times, precisions) need runs: --check train, --check weights, --list."
            )
    if unexplained := [claim for claim in claims if not claim.agrees and not claim.words]:
        first = unexplained[0]
        raise InputError(
            f"{len(unexplained)} figures differ from our counts and nobody says why; the first is {first.row} in "
            f"{first.where}: {first.what} {first.published}, ours {first.ours}"
        )


def _train(
    table: str | None,
    edition: str,
    scale: Scale,
    on: str | None,
    data: Path | None,
    seeds: int,
    jobs: int | None,
    threads: int,
    out: Path,
    change: list[str] | None,
) -> None:
    from senet.cli.reproduce_training import How, train_figure, train_table

    if table is None:
        raise InputError("name what to train, for example table10; `senet reproduce --list` names all")
    if edition != "tpami":
        raise InputError(f"trainings go by the TPAMI edition's numbers, not by those of {edition}; leave --edition out")
    how = How(
        out=out,
        scale=scale.value,
        source=on,
        data=data,
        seeds=seeds,
        jobs=jobs,
        threads=threads,
        changes=parse_assignments(change or []),
    )
    if table.startswith("figure"):
        train_figure(table.removeprefix("figure").strip(), how)
    else:
        train_table(_number(table), how)


def _weights(table: str | None, edition: str, data: Path | None, *, as_json: bool) -> None:
    from senet.study.published_weights import evaluate_published

    if table is None or data is None:
        raise InputError("weights are evaluated on the images of a table; name it, and give --data DIR")
    watch, found = ConsoleWatch(), []
    try:
        for one in evaluate_published(_figures(table, edition), data, progress=watch.loading):
            watch.close()
            found.append(one)
            if not as_json:
                typer.echo(f"{one.weight}: {one.measured:.2f} % top-1 error on {one.images:,} images", err=True)
    finally:
        watch.close()
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2, default=str))
    else:
        print_evaluated(found)


def _list(table: str | None, edition: str) -> None:
    from senet.published import figures, tables
    from senet.recipes.evidence import evidence_of
    from senet.recipes.tables import TABLES

    if table is None:
        print_tables(tables(), figures(), {number: evidence_of(known) for number, known in TABLES.items()})
    else:
        _figures(table, edition)  # refuses one that is not there
        known = TABLES.get(_number(table)) if edition == "tpami" else None
        print_trainings(known, _number(table), evidence_of(known) if known else {})


def _figures(table: str, edition: str) -> tuple[Figure, ...]:
    from senet.published import figures, tables

    known = [number for its, number in tables() if its == edition]
    if _number(table) not in known:
        raise InputError(
            f"{edition} has no table {table!r}{did_you_mean(_number(table), known)}; `senet reproduce --list`"
        )
    return figures(table=_number(table), edition=edition)


def _number(table: str) -> str:
    return table.removeprefix("table").strip() if table.startswith("table") else table


COMMANDS: dict[Callable[..., None], str] = {reproduce: "senet reproduce table10 --check train --on fashion-mnist"}
