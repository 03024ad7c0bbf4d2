"""senet recipes."""

from __future__ import annotations

import fnmatch
import inspect
import json
from collections.abc import Callable
from typing import Annotated

import typer

from senet.cli.options import AsJson
from senet.cli.show import print_rows
from senet.errors import InputError
from senet.options import to_plain
from senet.recipes import RECIPES

__all__ = ["COMMANDS"]


def recipes(
    pattern: Annotated[str, typer.Argument(metavar="[PATTERN]", help="A name, or a shell pattern: 'cifar.*'.")] = "*",
    as_json: AsJson = False,
) -> None:
    """List the recipes; of a single one, all that it says."""
    names = sorted(fnmatch.filter(RECIPES, pattern))
    if not names:
        raise InputError(f"no recipe matches {pattern!r}; `senet recipes` lists all")
    if as_json:
        typer.echo(json.dumps({name: to_plain(RECIPES[name]()) for name in names}, indent=2))
    elif len(names) == 1:
        typer.echo(_plain(inspect.getdoc(RECIPES[names[0]]) or ""))
        typer.echo("\n" + json.dumps(to_plain(RECIPES[names[0]]()), indent=2))
    else:
        print_rows("recipe", "what it trains", [(name, _headline(name)) for name in names])


def _headline(name: str) -> str:
    return _plain(inspect.getdoc(RECIPES[name]) or "").splitlines()[0]


def _plain(docstring: str) -> str:
    """Without the marks of reStructuredText."""
    return docstring.replace(":func:", "").replace("`", "")


COMMANDS: dict[Callable[..., None], str] = {recipes: "senet recipes cifar.seresnet20"}
