"""senet reproduce."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from senet.cli.options import AsJson
from senet.cli.progress import counting
from senet.cli.show_claims import print_claims, print_tables
from senet.errors import InputError, did_you_mean

__all__ = ["COMMANDS"]


class Check(StrEnum):
    """How a table is checked."""

    complexity = "complexity"


def reproduce(
    table: Annotated[
        str | None,
        typer.Argument(metavar="[TABLE]", help="table2, 'text: overhead' ...; left out: all. `--list` names them."),
    ] = None,
    edition: Annotated[str, typer.Option(help="tpami, cvpr, preprint-v3, release or others.")] = "tpami",
    check: Annotated[Check, typer.Option(help="complexity: sizes, and what follows from them or other figures.")] = (
        Check.complexity
    ),
    list_: Annotated[bool, typer.Option("--list", help="The tables, and how each can be checked.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare every published size with what our networks count; what only training can check is said to be not run."""
    from senet.analysis.claims import check_counts, check_figures, countable
    from senet.published import counts, figures, tables

    assert check is Check.complexity  # the only one so far
    if list_:
        if table is not None:
            raise InputError("--list shows all tables; leave TABLE out")
        print_tables(tables(), figures())
        return
    if table is None:
        found = figures()
    else:
        name = table.removeprefix("table").strip() if table.startswith("table") else table
        known = [known for its, known in tables() if its == edition]
        if name not in known:
            raise InputError(f"{edition} has no table {table!r}{did_you_mean(name, known)}; `senet reproduce --list`")
        found = figures(table=name, edition=edition)
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
            typer.echo(f"{waiting} figures (errors, times, precisions) can be checked by running alone: not run.")
    if unexplained := [claim for claim in claims if not claim.agrees and not claim.words]:
        first = unexplained[0]
        raise InputError(
            f"{len(unexplained)} figures differ from our counts and nobody says why; the first is {first.row} in "
            f"{first.where}: {first.what} {first.published}, ours {first.ours}"
        )


COMMANDS: dict[Callable[..., None], str] = {reproduce: "senet reproduce table2"}
