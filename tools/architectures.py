"""Writes docs/architectures.md from benchmarks/results/architectures.jsonl. A test compares the page with this.

python tools/architectures.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architectures.md"
RESULTS = ROOT / "benchmarks" / "results" / "architectures.jsonl"
ALLOWED = 1e-10
HEAD = """# Every architecture of timm and torchvision with a gate, fused and folded

Written by `tools/architectures.py` from what `benchmarks/architectures.py` measured; not by hand.

Each network was built with fresh weights and random norms, in float64. `fuse` takes a module over only where outputs,
gradients and running statistics agree to 1e-9; `unfuse` has to give back every class and key. The folded copy's outputs
are compared on one image, of 64 pixels where the network takes it; the difference is relative to the largest output.
Deep networks with random weights can make much of a rounding; where they differ by more than 1e-10, each unit with a
gate is compared as well, given what it is given in the network. `python benchmarks/architectures.py` takes those that
have no line yet.
"""


def page(lines: Sequence[Mapping[str, Any]]) -> str:
    """The page as Markdown, in the order of the networks' names."""
    lines = sorted(lines, key=lambda line: line["name"])
    used = sorted({f"torch {x['torch']}, timm {x['timm']}, torchvision {x['torchvision']}" for x in lines})
    largest = max(line["parameters"] for line in lines) / 1e6
    fused = [line for line in lines if line["fuse"].get("restored") and line["fuse"]["taken"]]
    folded = [line for line in lines if line["fold"].get("gates")]
    exact = sum(line["fold"]["difference"] <= ALLOWED for line in folded)
    by_units = sum(_agrees(line["fold"]) for line in folded) - exact
    summary = [
        f"{len(lines)} architectures of up to {largest:.0f} M parameters ({'; '.join(used)}).",
        "Others have no result: docs/log.md names them, and why.",
        f"`fuse` took sites of {len(fused)}, all gates of {_complete(lines, 'fuse', 'taken')}; `unfuse` restored all.",
        f"`fold` took gates of {len(folded)}, all gates of {_complete(lines, 'fold', 'gates')}; to {ALLOWED:g} agree "
        f"the outputs of {exact}, and of {by_units} more those of each unit.",
        "",
        "## What is left, and why",
        "",
        *(_exceptions(lines) or ["Nothing."]),
        "",
        "## All",
        "",
        "| architecture | M parameters | gates | fused sites | folded gates | folded norms | difference |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    return HEAD + "\n" + "\n".join([*summary, *(_row(line) for line in lines), ""])


def _agrees(fold: Mapping[str, Any]) -> bool:
    """To 1e-10: the network's outputs, or those of each of its units."""
    return bool(fold.get("gates")) and min(fold["difference"], fold.get("units", 1.0)) <= ALLOWED


def _complete(lines: Sequence[Mapping[str, Any]], verb: str, what: str) -> int:
    return sum(line[verb].get(what, 0) >= line["gates"] for line in lines)


def _exceptions(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each reason: the networks in which a gate was left for it, or a difference is large, or all failed."""
    found: dict[str, dict[str, float]] = {}
    for line in lines:
        for reason, count in _reasons(line):
            found.setdefault(reason, {})[line["name"]] = count
    return [
        f"- {reason}: {', '.join(f'{name} ({count})' for name, count in sorted(names.items()))}"
        for reason, names in sorted(found.items())
    ]


def _reasons(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for verb in ("fuse", "fold"):
        result = line[verb]
        if "error" in result:
            yield f"`{verb}` failed: {result['error']}", 1
        for reason, count in result.get("left", {}).items():
            yield f"`{verb}`: {_general(reason)}", count
        silent = line["gates"] - result.get("taken", result.get("gates", 0)) - sum(result.get("left", {}).values())
        if silent > 0 and "error" not in result:
            yield f"`{verb}` says nothing of it", silent
        if verb == "fuse" and result.get("restored") is False:
            yield "`unfuse` did not restore it", 1
    fold = line["fold"]
    if fold.get("difference", 0.0) > ALLOWED:
        where = "alone, not in its units" if _agrees(fold) else "and in its units"
        yield (
            f"`fold` differs by more than {ALLOWED:g} in the network {where}: in brackets, times what the last bit of "
            "the input or another order of sums makes in the network itself",
            round(fold["difference"] / fold["rounding"], 1),
        )


def _general(reason: str) -> str:
    """A reason without the names of one network's nodes."""
    return re.sub(r"\b\w+_\w+\b", "...", reason)


def _row(line: Mapping[str, Any]) -> str:
    fuse, fold = line["fuse"], line["fold"]
    name = line["name"].replace("torchvision:", "torchvision: ")
    difference = f"{fold['difference']:.1e}" if "difference" in fold else ""
    difference += f", units {fold['units']:.1e}" if "units" in fold else ""
    millions = f"{line['parameters'] / 1e6:.2f}"
    taken = (line["gates"], fuse.get("taken", "failed"), fold.get("gates", "failed"), fold.get("norms", ""))
    return f"| {' | '.join(map(str, (name, millions, *taken, difference)))} |"


def newest() -> list[Mapping[str, Any]]:
    """The last line of each architecture."""
    return list({line["name"]: line for line in map(json.loads, RESULTS.read_text().splitlines())}.values())


if __name__ == "__main__":
    PAGE.write_text(page(newest()))
