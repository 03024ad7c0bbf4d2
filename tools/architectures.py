"""Writes docs/architectures.md from benchmarks/results/architectures.jsonl. A test compares the page with this.

python tools/architectures.py
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architectures.md"
RESULTS = ROOT / "benchmarks" / "results" / "architectures.jsonl"
ALLOWED = 1e-10
VERBS = ("fuse", "fold", "record")
ASKED = """Each network was built with fresh weights and random norms, in float64. A gate is a product of a map with one
number for each channel of each image that depends on the input through the map's own average alone; how many there are
was counted in the operators that a run dispatches, not by names and not by senet. The number of others follows a plus:
their gates see more of the map than its average, or its channels come last. Each gate has to be taken, or left with a
reason, by `fuse`, `fold` and `record`. Differences are the largest of two sizes and batches, relative to the largest
number: of outputs in evaluation, fused or folded; in training, fused, of outputs, gradients and running statistics.
`unfuse` has to give back every class and key and the same bits.
"""
HEAD = f"""# Every architecture of timm and torchvision with a gate: fused, folded, recorded

Written by `tools/architectures.py` from what `benchmarks/architectures.py` measured; not by hand.

{ASKED}
Rows without a commit are of an older benchmark, which knew gates by the names of their classes, compared one image of
the folded network, and where rounding grew in a deep network each rewritten unit alone. `python
benchmarks/architectures.py` takes them again.
"""
Row = Mapping[str, Any]


def page(rows: Sequence[Row]) -> str:
    """The page as Markdown, in the order of the networks' names."""
    rows = sorted(rows, key=lambda row: row["name"])
    used = sorted({f"torch {row['torch']}, timm {row['timm']}, torchvision {row['torchvision']}" for row in rows})
    largest = max(row["parameters"] for row in rows) / 1e6
    opening = f"{len(rows)} architectures of up to {largest:.0f} M parameters ({'; '.join(used)})."
    return HEAD + "\n" + "\n".join([opening, *summary(rows), *table("architecture", rows), ""])


def summary(rows: Sequence[Row]) -> list[str]:
    """All in numbers, then all that is left, and why."""
    measured = [row for row in rows if "error" not in row]
    lines = [
        f"{_taken(measured, 'fuse')}; {_taken(measured, 'fold')}; {_taken(measured, 'record')}.",
        f"`unfuse` restored {_share(measured, lambda row: row['fuse'].get('restored', False))}.",
        f"Fused and folded, to {ALLOWED:g}: {_share(measured, agrees)}.",
        f"Commits: {', '.join(f'{commit} ({count})' for commit, count in sorted(_commits(rows).items()))}.",
    ]
    return [*lines, "", "## What is left, and why", "", *(_exceptions(rows) or ["Nothing."]), ""]


def _commits(rows: Sequence[Row]) -> Counter[str]:
    return Counter(_commit(row) for row in rows)


def _commit(row: Row) -> str:
    return row.get("commit", "none") + (", older than the engine" if row.get("stale") and "commit" in row else "")


def _taken(rows: Sequence[Row], verb: str) -> str:
    rows = [row for row in rows if verb in row]
    return f"`{verb}` took all gates of {_share(rows, lambda row: row[verb].get('taken', -1) >= row['gates'])}"


def _share(rows: Sequence[Row], holds: Any) -> str:
    count = sum(map(holds, rows))
    return "all" if count == len(rows) else f"{count} of {len(rows)}"


def agrees(row: Row) -> bool:
    """To 1e-10: in training and evaluation, the whole network, or of older rows each of its units."""
    if any("error" in row[verb] for verb in ("fuse", "fold")):
        return False
    found = [row["fuse"].get("evaluation", 0.0), row["fuse"].get("training", 0.0)]
    return max(*found, min(row["fold"]["evaluation"], row["fold"].get("units", float("inf")))) <= ALLOWED


def _exceptions(rows: Sequence[Row]) -> list[str]:
    """A line for each reason: the networks in which a gate was left for it, or a difference is large, or all failed."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        for reason, count in _reasons(row):
            names = found.setdefault(reason, {})
            names[row["name"]] = names.get(row["name"], 0) + count
    return [
        f"- {reason}: {', '.join(f'{name} ({count})' for name, count in sorted(names.items()))}"
        for reason, names in sorted(found.items())
    ]


def _reasons(row: Row) -> Iterator[tuple[str, float]]:
    if "error" in row:
        yield f"not measured: {row['error']}", 1
        return
    for verb in VERBS:
        result = row.get(verb, {})
        if "error" in result:
            yield f"`{verb}` failed: {_general(result['error'])}", 1
        for reason, count in result.get("left", {}).items():
            yield f"`{verb}`: {_general(reason)}", count
        if result.get("silent"):
            yield f"`{verb}` says nothing of it", len(result["silent"])
        if result.get("others"):
            yield f"`{verb}` says something of what is no gate, or twice of one", len(result["others"])
    if row["fuse"].get("restored") is False:
        yield "`unfuse` did not restore it", 1
    for verb, mode in (("fuse", "evaluation"), ("fuse", "training"), ("fold", "evaluation")):
        difference = row[verb].get(mode, 0.0)
        if difference > ALLOWED:
            units = ", its units on inputs of their own do not" if row[verb].get("units", 1.0) <= ALLOWED else ""
            yield (
                f"`{verb}` differs by more than {ALLOWED:g} in {mode}{units}: in brackets, times what the last bit of "
                "the input or another order of sums makes in the network itself",
                round(difference / row["rounding"][mode], 1),
            )


def _general(reason: str) -> str:
    """A reason without the names and numbers of one network."""
    reason = re.sub(r"\b\d(\.\d+)?e[-+]\d+", "...", reason)
    return re.sub(r"\b\w+_\w+\b", "...", reason).replace("|", "/").replace("\n", " ")


def table(what: str, rows: Sequence[Row]) -> list[str]:
    """All rows."""
    return [
        "## All",
        "",
        f"| {what} | M parameters | gates | fused | folded | recorded | evaluation | training | commit |",
        "|---|--:|--:|--:|--:|--:|--:|--:|---|",
        *map(_row, rows),
    ]


def _row(row: Row) -> str:
    name = row["name"].replace("torchvision:", "torchvision: ")
    if "error" in row:
        return f"| {name} | | | | | | | | {_commit(row)} |"
    others = row.get("more", 0) + row.get("last", 0)
    gates = f"{row['gates']} + {others}" if others else row["gates"]
    taken = [row[verb].get("taken", "failed") if verb in row else "" for verb in VERBS]
    evaluation = [row[verb]["evaluation"] for verb in ("fuse", "fold") if "evaluation" in row[verb]]
    cells = (
        name,
        f"{row['parameters'] / 1e6:.2f}",
        gates,
        *taken,
        f"{max(evaluation):.1e}" if evaluation else "",
        f"{row['fuse']['training']:.1e}" if "training" in row["fuse"] else "",
        _commit(row),
    )
    return f"| {' | '.join(map(str, cells))} |"


def newest(results: Path = RESULTS) -> list[Row]:
    """The last line of each network."""
    return list({row["name"]: row for row in map(json.loads, results.read_text().splitlines())}.values())


if __name__ == "__main__":
    PAGE.write_text(page(newest()))
