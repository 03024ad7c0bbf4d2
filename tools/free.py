"""Writes docs/free.md: what free SE costs, from benchmarks/results/free.jsonl. A test compares the page with this.

python tools/free.py
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "free.md"
RESULTS = ROOT / "benchmarks" / "results" / "free.jsonl"
HEAD = """# Free SE

Written by `tools/free.py` from `benchmarks/results/free.jsonl`; not by hand.

## What happens

**Training** (`senet.fuse`). A batch norm is affine in each channel, so the squeeze of its output follows from the means
of its input, which it needs anyway. One sweep over the convolution's output gives every image's mean and centred second
moment; the gate is computed from small tensors; a second sweep writes relu(s * norm(x) + shortcut). Backward is two
sweeps too, those that the norm alone would need. SE in an ordinary network adds 3 passes over its map forward and 10
backward; here it adds none, and 11 and 18 passes of the unit's end become 4 and 7, as without SE. Of wide maps only x
and the output are kept, as without SE. Behind an activation (MobileNetV3, EfficientNet, RegNetY) the gated map is
computed again in backward instead of being kept. The passes are counted, by a test, in the loads and stores of the
Triton kernels, and on the operators of whole networks.

**Inference** (`senet.fold`). Norms fold into convolutions; where the gated map is a 1x1 projection, the pool moves
before it, and the projection and the gate's first layer become one smaller layer.

**Who computes.** Triton on CUDA, C++ compiled once on CPUs, PyTorch operators elsewhere: `senet doctor` says which and
why, `with senet.kernels.dispatch.use("plain"):` chooses.

**Where it does not pay.** Uncompiled, a site runs some 70 small operators more than eager SE does: on small maps (CIFAR
networks at small batches) they cost more than the passes that are saved. `torch.compile` merges them. `senet tax MODEL`
says what holds for a network on a machine.

## What it must show, and what it does

CPU times: one thread, the process's own time, networks in turn, against timm's plain ResNet-50; median ratio and its
95 % interval. A second plain network is the control. The process keeps the memory that it frees, as `senet train` does.

| what | target | measured | control | verdict |
|---|--:|--:|--:|---|
"""
COUNTS = (
    ("activation bytes kept, fused SE-ResNet-50 / ResNet-50, training", 1.005, "kept_fused_seresnet50"),
    ("the same, fused EfficientNet-B0 / itself in timm", 0.75, "kept_fused_efficientnet_b0"),
)
TIMES = (
    ("train", "CPU training step, eager", 1.05, "fused"),
    ("train-compiled", "CPU training step, torch.compile on both sides", 1.03, "fused"),
    ("infer-compiled-1", "CPU inference, compiled and frozen", 1.03, "folded"),
    ("infer-compiled-8", "CPU inference, compiled and frozen", 1.03, "folded"),
)
UNMEASURED = (
    ("GPU training step, bf16, channels-last, compiled: SE-ResNet-50, SE-ResNeXt-101 / plain", "<= 1.00"),
    ("GPU inference, bf16, large batch / batch 1 with CUDA graphs", "<= 1.02 / 1.05"),
    ("GPU: share of the copy bandwidth reached by the tail's sweeps", ">= 85 %"),
)
GATED = "timm's SE-ResNet-50 as it is, in the same runs:\n"
SLOWER = """\
In processes that give memory back, as glibc does by default, steps wait for the system to clear hundreds of thousands
of pages, more or fewer as it happens in each network:
"""
FLOOR = """\
**Batch 1.** Two things of a folded gate remain. Its matrices are read for each image: 1.59 M weights in SE-ResNet-50,
6 % more than ResNet-50 has. And product, sum and ReLU are a pass that the plain network has not, whose sum and ReLU are
the end of oneDNN's convolution; PyTorch gives no access to a factor there. docs/log.md has the time of each.
"""


def page(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """The page as Markdown, from the newest line of each measurement, by what became of the memory freed."""
    lines, given_back = found["kept"], found["given back"]
    rows = [_counted(what, bound, lines["counts"][key], _setting(lines["counts"])) for what, bound, key in COUNTS]
    rows += [_timed(f"{what}, {key}", bound, lines[name], key) for name, what, bound, key in TIMES]
    rows += [f"| {what} | {target} | not measured | | no GPU was at hand |" for what, target in UNMEASURED]
    used = sorted({f"{line['device']}, torch {line['torch']}, timm {line['timm']}" for line in lines.values()})
    gated = [f"- {what}, {_setting(lines[name])}: {_interval(lines[name]['se'])}" for name, what, _, _ in TIMES]
    kept = f"- activation bytes kept, {_setting(lines['counts'])}: {lines['counts']['kept_seresnet50']}"
    slower = [
        f"- {what}, {_setting(line)}: {_interval(line[key])}, timm's SE-ResNet-50 {_interval(line['se'])}, "
        f"control {_interval(line['control'])}"
        for name, what, _, key in TIMES
        if (line := given_back.get(name))
    ]
    return HEAD + "\n".join(
        [*rows, "", f"Measured on: {'; '.join(used)}.", "", GATED, *gated, kept, "", SLOWER, *slower, "", FLOOR]
    )


def _counted(what: str, bound: float, value: float, setting: str) -> str:
    return f"| {what}, {setting} | <= {bound} | {value} | exact | {'met' if value <= bound else 'missed'} |"


def _timed(what: str, bound: float, line: Mapping[str, Any], key: str) -> str:
    _, low, high = line[key]
    verdict = "met" if high <= bound else "missed" if low > bound else "too noisy to tell"
    cells = (f"{what}, {_setting(line)}", f"<= {bound}", _interval(line[key]), _interval(line["control"]), verdict)
    return f"| {' | '.join(cells)} |"


def _interval(ratio: Sequence[float]) -> str:
    median, low, high = ratio
    return f"{median:.3f} [{low:.3f}, {high:.3f}]"


def _setting(line: Mapping[str, Any]) -> str:
    return f"{line['size']} px, batch {line['batch_size']}"


def newest() -> dict[str, dict[str, Mapping[str, Any]]]:
    """The last line of each measurement, by what became of the memory freed."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {"kept": {}, "given back": {}}
    for line in map(json.loads, RESULTS.read_text().splitlines()):
        found[line.get("memory", "given back")][line["what"]] = line  # the first lines do not say
    return found


if __name__ == "__main__":
    PAGE.write_text(page(newest()))
