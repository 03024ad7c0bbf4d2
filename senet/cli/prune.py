"""senet prune."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from senet.cli.apply import How, RunPath
from senet.cli.options import AsJson, DataDir, Weights
from senet.cli.progress import telling
from senet.options import parse_assignments, to_plain

__all__ = ["COMMANDS"]


class Metric(StrEnum):
    """Metrics of accuracy."""

    top1 = "top1"
    top5 = "top5"


def prune(
    run: RunPath,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The pruned network's weights, a .safetensors file.")],
    data: DataDir = None,
    max_drop: Annotated[
        float, typer.Option(min=0, max=100, help="Percentage points of accuracy that may be lost.")
    ] = 0.1,
    metric: Annotated[Metric, typer.Option(help="What accuracy is.")] = Metric.top1,
    sites: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Gates to try, for example 'layer4.*'; repeatable.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="At most so many images, of all classes.")] = None,
    weights: Weights = "model",
    change: How = None,
    as_json: AsJson = False,
) -> None:
    """Replace gates that hardly matter by constants, which are folded away; half of the images choose, half judge."""
    from senet.study.pruning import check_target, prune_trained, save_pruned
    from senet.train.trained import read_trained

    check_target(out)  # not to be found wrong after an hour
    trained = read_trained(run, weights=weights, changes=parse_assignments(change or []))
    with telling() as progress:
        pruned = prune_trained(
            trained, data, max_drop=max_drop, metric=metric.value, sites=sites, limit=limit, progress=progress
        )
    save_pruned(out, trained, pruned)
    if as_json:
        typer.echo(json.dumps({"report": pruned.report.to_dict(), "judged": to_plain(pruned.judged)}, indent=2))
        return
    typer.echo(str(pruned.report))
    typer.echo(f"{pruned.judged}\nThe network: {out}")


COMMANDS: dict[Callable[..., None], str] = {
    prune: "senet prune runs/seresnet20 --max-drop 0.1 --out pruned.safetensors"
}
