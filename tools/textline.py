"""Writes docs/textline.md and its figures from benchmarks/results/textline.jsonl. A test compares them with this.

python tools/textline.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from senet.analysis.gates.plots import class_gates, gate_spread
from senet.analysis.gates.statistics import Site
from senet.analysis.lab.leave_out import ALL, Change, Effect, LeaveOneOut
from senet.analysis.lab.plots import losses
from senet.analysis.svg import SERIES

Line = Mapping[str, Any]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "textline.md"
FIGURES = PAGE.parent / "figures"
RESULTS = ROOT / "benchmarks" / "results" / "textline.jsonl"
HEAD = """# A network with SE that others trained

Written by `tools/textline.py` from `benchmarks/results/textline.jsonl`, which `benchmarks/textline.py` measures; not by
hand.

PaddleOCR's classifier says whether a line of text is upright or turned by 180 degrees. It is a small MobileNetV3 with
nine SE blocks, trained by its authors and published as an ONNX file (Apache-2.0), which becomes a network of ours:

```python
net = senet.create_model("paddle_textline_cls", pretrained="ch_ppocr_mobile_v2.0_cls_infer.onnx")
```

`senet convert FILE.onnx OUT.safetensors` writes it as a file of ours. `senet eval`, `senet excite` and `senet prune`
with `--data` bring square images only: bring lines of text to this network in Python, scaled to the height 48 and
padded on the right to the width 192. The ONNX file is in the package rapidocr-onnxruntime 1.4.4, and the lines of text
are cut from the photograph of a page in scikit-image, each upright and turned:
`pip install --no-deps rapidocr-onnxruntime==1.4.4 scikit-image==0.26.0`. One page says how these gates behave on it,
not how well the network reads others.
"""
SAME = """
## The same network

Largest differences of the outputs from those of the ONNX file, for noise and for lines of text. In float64 the file is
run by onnx's own evaluator; its slope of the gate, 0.2, stays rounded to float32 there.

| what | {noise} images of noise | {lines} lines of text |
|---|--:|--:|
"""
GATES = """
## What its gates do

The excitation lab on {images} lines that do not overlap, of which {top1:.1f} % are right: the change of that, in
points and with its standard error, with the gates of one block at their mean over all lines, at 1, or another line's.
Std is that of a gate over all lines, root mean square over the block, and between is the share of its variance that
lies between upright and turned lines; rank is the effective rank; dead and saturated are gates whose mean is below 0.05
or above 0.95.

| block | gates | std | between, % | rank | dead, % | saturated, % | at their mean | at 1 | another line's |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|
"""
PRUNED = """
## Pruned

`senet.prune` on {images} lines of the left half of the page, judged by {unseen} of the right half. Windows overlap, so
these are fewer independent lines than their number says.

| allowed loss, points | gates held constant | parameters | gone of the gates', % | left half, % | right half, % |
|---|--:|--:|--:|--:|--:|
"""
FOLDED = """
## Folded

What a network moves for one line, counted on PyTorch's operators. Folded, the outputs differ by {logits:.1e} in float32
and {logits_float64:.1e} in float64, and {after:.1f} % are right, {before:.1f} % before.

| network | parameters | operators | MB |
|---|--:|--:|--:|
"""


def page(lines: Mapping[str, Line]) -> str:
    """The page as Markdown, from the newest line of each measurement."""
    same, lab, pruned, folded = (lines[what] for what in ("agreement", "lab", "prune", "fold"))
    parts = [
        HEAD,
        *(f"\n- {sentence}" for sentence in _answers(lab, pruned)),
        "\n",
        SAME.format(noise=same["noise"]["images"], lines=same["lines"]["images"]),
        *_same(same),
        GATES.format(**lab),
        *_gates(lab),
        *(f"\n![{title}](figures/{name}.svg)\n\n*{title}*\n" for name, title in TITLES.items()),
        PRUNED.format(**pruned),
        *_pruned(pruned),
        FOLDED.format(**folded),
        *_folded(folded, pruned),
        f"\nMeasured with torch {folded['torch']} and {same['runtime']}.\n",
    ]
    return "".join(parts)


def _answers(lab: Line, pruned: Line) -> Iterator[str]:
    """What the numbers come to, by rule."""
    found = _left_out(lab)
    for how, words in (("mean", "at their mean over all lines"), ("one", "at 1")):
        missed = [
            site for site in found.sites if found.of(site, how).top1.points < 0 and found.of(site, how).top1.shown
        ]
        both = found.of(ALL, how).top1
        yield (
            f"With the gates of one block {words}, the accuracy falls by more than two standard errors for "
            f"{len(missed)} of {len(found.sites)} blocks; all blocks so: {_change(both)} points."
        )
    least = pruned["drops"][0]
    yield (
        f"{_constant(least)} of {len(least['steps'])} gates can be constants at a loss of "
        f"{least['before'] - least['after']:.1f} points where they were chosen and "
        f"{pruned['before_unseen'] - least['after_unseen']:.1f} points on lines not seen, which takes "
        f"away {100 * (1 - least['parameters'] / least['before_parameters']):.0f} % of the network's parameters."
    )


def _same(same: Line) -> Iterator[str]:
    rows = {
        "largest logit": "largest_logit",
        "logits, float32": "logits",
        "probabilities, float32": "probabilities",
        "all nine gates, float32": "gates",
        "logits, float64": "logits_float64",
        "for comparison: ONNX Runtime's logits from float64": "logits_runtime_float64",
    }
    for words, key in rows.items():
        cells = (f"{same[of][key]:.3g}" for of in ("noise", "lines"))
        yield f"| {words} | {' | '.join(cells)} |\n"


def _gates(lab: Line) -> Iterator[str]:
    found = _left_out(lab)
    for name, site in sites(lab).items():
        block = lab["blocks"][name]
        cells = [name, str(block["gates"]), f"{float((site.std**2).mean().sqrt()):.3f}"]
        cells += [f"{100 * site.share_between:.0f}", f"{block['effective_rank']:.1f}"]
        cells += [f"{100 * block[key]:.0f}" for key in ("dead", "saturated")]
        yield f"| {' | '.join([*cells, *_changes(found, name)])} |\n"
    gates = sum(block["gates"] for block in lab["blocks"].values())
    yield f"| {' | '.join([ALL, str(gates), *5 * [''], *_changes(found, ALL)])} |\n"


def _changes(found: LeaveOneOut, site: str) -> list[str]:
    return [_change(found.of(site, how).top1) for how in ("mean", "one", "shuffled")]


def _change(change: Change) -> str:
    return f"{change.points:+.1f} ± {change.error:.1f}" if change.gained + change.lost else "0"


def _pruned(pruned: Line) -> Iterator[str]:
    first = pruned["drops"][0]
    cells = ["as it is", "0", f"{first['before_parameters']:,}", "0", f"{first['before']:.1f}"]
    yield f"| {' | '.join([*cells, _counted(pruned['before_unseen'], pruned['unseen'])])} |\n"
    for drop in pruned["drops"]:
        gone = 100 * (drop["before_parameters"] - drop["parameters"]) / drop["gate_parameters"]
        cells = [str(drop["max_drop"]), f"{_constant(drop)} of {len(drop['steps'])}", f"{drop['parameters']:,}"]
        cells += [f"{gone:.0f}", f"{drop['after']:.1f}", _counted(drop["after_unseen"], pruned["unseen"])]
        yield f"| {' | '.join(cells)} |\n"


def _folded(folded: Line, pruned: Line) -> Iterator[str]:
    rows = {key: folded[key] for key in ("as it is", "without gates", "folded", "without gates, folded")}
    for drop in pruned["drops"]:
        rows[f"pruned by {drop['max_drop']} points, folded"] = drop["folded"]
    for words, row in rows.items():
        yield f"| {words} | {row['parameters']:,} | {row['launches']} | {row['bytes'] / 1e6:.1f} |\n"


def _constant(drop: Line) -> int:
    return sum(step["decision"] != "kept" for step in drop["steps"])


def _counted(percent: float, images: int) -> str:
    return f"{percent:.1f} ({round(percent * images / 100)} of {images})"


def _left_out(lab: Line) -> LeaveOneOut:
    """The lab's table as it was."""
    told = lab["leave_one_out"]
    effects = tuple(
        Effect(e["block"], e["gates"], Change(told["images"], e["top1"]["gained"], e["top1"]["lost"]), None)
        for e in told["effects"]
    )
    return LeaveOneOut(told["images"], told["top1"], None, effects)


def sites(lab: Line) -> dict[str, Site]:
    """The lab's statistics as they were."""
    return {
        name: Site(*(torch.tensor(block[key], dtype=torch.float64) for key in ("count", "means", "moments")))
        for name, block in lab["blocks"].items()
    }


TITLES = {
    "textline-losses": "Change of accuracy with the gates of one block changed, two standard errors to either side.",
    "textline-spread": "How much the gates of each block move, between upright and turned lines and within each.",
    "textline-gates": "Mean gates of the last block, every fourth channel; those of all lines grey.",
}


def figures(lines: Mapping[str, Line]) -> dict[str, bytes]:
    """The figures as SVG, by their names."""
    found = sites(lines["lab"])
    last = list(found)[-1]
    classes = list(zip((0, 1), SERIES, strict=False))
    by_class = class_gates(found[last], ("upright", "turned"), classes, name=last)
    plots = (losses(_left_out(lines["lab"])), gate_spread(found), by_class)
    return {name: plot.file("svg") for name, plot in zip(TITLES, plots, strict=True)}


def newest() -> dict[str, Line]:
    """The last line of each measurement."""
    return {line["what"]: line for line in map(json.loads, RESULTS.read_text().splitlines())}


if __name__ == "__main__":
    FIGURES.mkdir(exist_ok=True)
    PAGE.write_text(page(newest()))
    for name, drawn in figures(newest()).items():
        (FIGURES / f"{name}.svg").write_bytes(drawn)
