"""Writes docs/gates.md from benchmarks/results/gates.jsonl. A test compares the page with this.

python tools/gates.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "gates.md"
RESULTS = ROOT / "benchmarks" / "results" / "gates.jsonl"
ALL = "all blocks"
HEAD = """# What the gates of two small networks do, and which can go

Written by `tools/gates.py` from what `benchmarks/gates.py` measured; not by hand. One seed each, a short training: an
example of what the tools find, not a law of squeeze-and-excitation.

**Leave-one-out** (`senet excite RUN --out DIR`): the change of top-1 accuracy, in points with its standard error over
paired images, with the gates of one block at their mean over all images, at 1 (as if there were no block), or those of
another image. Bold: more than two standard errors. Std is that of a gate over all images, root mean square over the
block; between is the share of its variance that lies between classes; rank is the effective rank.

**Pruning** (`senet prune RUN --max-drop POINTS --out FILE`): gates that became constants, folded away, at each
allowance. Every second image chose, the others judged: the last column is of images that pruning did not see.
"""


def page(lines: Sequence[Mapping[str, Any]]) -> str:
    """The page as Markdown."""
    return HEAD + "".join(map(_network, lines))


def _network(line: Mapping[str, Any]) -> str:
    lab = line["lab"]
    rows = [
        f"\n## {line['model']}, recipe {line['recipe']}\n",
        f"{line['epochs']} epochs on {line['train_images']:,} images of {line['dataset']}, seed {line['seed']}: "
        f"{lab['top1']:.2f} % of {lab['images']:,} held-out images are right. {line['device']}.\n",
        "| block | gates | std | between, % | rank | at their mean | at 1 | another image's |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
        *(_block(site, lab["blocks"].get(site), effects) for site, effects in lab["effects"].items()),
        "",
        "| allowed | constant gates | of the gates' parameters gone | bytes moved | those that chose | the others |",
        "|--:|--:|--:|--:|--:|--:|",
        *(_pruned(step, len(lab["blocks"])) for step in line["pruned"]),
        "",
    ]
    return "\n".join(rows)


def _block(site: str, block: Mapping[str, Any] | None, effects: Mapping[str, Mapping[str, float]]) -> str:
    name = site if block else ALL
    stated = ("gates", "std", "between", "rank")
    own = [block[what] for what in stated] if block else [""] * len(stated)
    return f"| {' | '.join(map(str, [name, *own, *map(_change, effects.values())]))} |"


def _change(effect: Mapping[str, float]) -> str:
    text = f"{effect['points']:+.2f} ± {effect['error']:.2f}"
    return f"**{text}**" if abs(effect["points"]) > 2 * effect["error"] else text


def _pruned(step: Mapping[str, Any], blocks: int) -> str:
    gone = 100 * (step["parameters"][0] - step["parameters"][1]) / step["gate_parameters"]
    moved = 100 * (step["bytes"][1] / step["bytes"][0] - 1)
    chose, judged = step["chosen_by"], step["judged_by"]
    cells = (
        f"{step['max_drop']:g} points",
        f"{len(step['constant'])} of {blocks}",
        f"{gone:.1f} %",
        f"{moved:+.1f} %",
        f"{chose['before']:.2f} -> {chose['after']:.2f} %",
        f"{judged['before']:.2f} -> {judged['after']:.2f} %, {judged['after'] - judged['before']:+.2f} "
        f"± {judged['error']:.2f}",
    )
    return f"| {' | '.join(cells)} |"


def newest() -> list[Mapping[str, Any]]:
    """The last line of each network."""
    return list({line["model"]: line for line in map(json.loads, RESULTS.read_text().splitlines())}.values())


if __name__ == "__main__":
    PAGE.write_text(page(newest()))
