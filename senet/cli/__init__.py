"""The command line: verbs that parse, call one function of the library, and print."""

from __future__ import annotations

import typer

from senet.cli import apply, convert, doctor, excite, models, prune, recipes, reproduce, runs, tax, training

__all__ = ["app"]

app = typer.Typer(
    name="senet",
    help="Squeeze-and-excitation networks: train, evaluate, understand.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

for _module in (training, recipes, apply, excite, prune, runs, models, reproduce, tax, convert, doctor):
    for _function, _example in _module.COMMANDS.items():
        app.command(name=_function.__name__.removesuffix("_"), epilog=f"Example: {_example}")(_function)
