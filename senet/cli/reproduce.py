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
    from senet.cli.reproduce_training import How
    from senet.published import Figure

__all__ = ["COMMANDS"]

_RUNS = Path("runs/reproduce")


class Check(StrEnum):
    """Ways to check a table."""

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
            metavar="[TABLE]",
            help="table2, figure4, 'text: overhead', structures ...; left out: all. --list names them.",
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
        Scale | None, typer.Option(help="train: small networks on small images (default), or the paper's own recipes.")
    ] = None,
    on: Annotated[
        str | None, typer.Option(help="small: cifar10, cifar100, fashion-mnist, or folder with --data DIR.")
    ] = None,
    data: DataDir = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="train: seeds of an arm; 5.")] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="train: runs at a time; one a GPU, where small ones leave room, or a core."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="train: of each run on the CPU; 1.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="train, --list: folder of runs and results (runs/reproduce); the same again goes on."
        ),
    ] = None,
    change: Changes = None,
    list_: Annotated[bool, typer.Option("--list", help="What can be checked how, and what was run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check the paper's tables: sizes by counting, errors by training, pretrained weights by evaluating them."""
    table = None if table is None else _number(table)
    training = {"--scale": scale, "--on": on, "--seeds": seeds, "--jobs": jobs, "--threads": threads, "--set": change}
    given = [name for name, value in training.items() if value is not None]
    if given and (list_ or check is not Check.train):
        raise InputError(f"{given[0]} says how to train; give --check train, or leave it out")
    if as_json and (list_ or check is Check.train):
        raise InputError("--json is for --check complexity and weights; the results of trainings are in results.jsonl")
    if list_:
        _list(table, edition, out)
    elif check is Check.train:
        from senet.cli.reproduce_training import How

        how = How(
            out=out or _RUNS,
            scale="small" if scale is None else scale.value,
            source=on,
            data=data,
            seeds=seeds or 5,
            jobs=jobs,
            threads=threads or 1,
            changes=parse_assignments(change or []),
        )
        _train(table, edition, how)
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


def _train(table: str | None, edition: str, how: How) -> None:
    from senet.cli.reproduce_training import train_figure, train_table

    if table is None:
        raise InputError("name what to train, for example table10; `senet reproduce --list` names all")
    if edition != "tpami":
        there = {("cvpr", "3"): "3", ("cvpr", "6"): "7", ("cvpr", "7"): "10"}.get((edition, table))
        instead = f"; there it is Table {there}" if there else ""
        raise InputError(f"trainings go by the TPAMI edition's numbers, not by those of {edition}{instead}")
    if table.startswith("figure"):
        train_figure(table.removeprefix("figure").strip(), how)
    else:
        train_table(table, how)


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


def _list(table: str | None, edition: str, out: Path | None) -> None:
    from senet.published import figures, tables
    from senet.recipes.evidence import evidence_of
    from senet.recipes.tables import TABLES
    from senet.study.ledger import Ledger

    own = Ledger((out or _RUNS) / "results.jsonl")  # empty where there is none
    if table is None:
        ours = {("ours", number): known.title for number, known in TABLES.items() if known.title}
        runs = {number: evidence_of(known, own) for number, known in TABLES.items()}
        print_tables({**tables(), **ours}, figures(), runs)
    else:
        if not (table in TABLES and TABLES[table].title):
            _figures(table, edition)  # refuses one that is not there
        known = TABLES.get(table) if edition == "tpami" else None
        print_trainings(known, table, evidence_of(known, own) if known else {})


def _figures(table: str, edition: str) -> tuple[Figure, ...]:
    from senet.published import figures, tables
    from senet.recipes.tables import TABLES

    if table in TABLES and TABLES[table].title:
        raise InputError(f"{table!r} is a comparison of ours, nothing published that could be checked; --check train")
    if table.startswith("figure"):
        raise InputError(f"{table} is drawn, by --check train; accepted there: figure4, figure6, figure7")
    known = [number for its, number in tables() if its == edition]
    if table not in known:
        raise InputError(
            f"{edition} has no table {table!r}; `senet reproduce --list` shows all{did_you_mean(table, known)}"
        )
    return figures(table=table, edition=edition)


def _number(table: str) -> str:
    """``"10"`` for ``"Table 10"``, ``"figure4"`` for ``"Figure 4"``; others, such as ``"text: time"``, as they are."""
    lower = table.lower().replace(" ", "")
    if lower.startswith("figure"):
        return lower
    return lower.removeprefix("table") if lower.startswith("table") else table


COMMANDS: dict[Callable[..., None], str] = {reproduce: "senet reproduce table10 --check train --on fashion-mnist"}
