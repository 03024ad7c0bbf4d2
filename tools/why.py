"""Writes docs/why.md, and with --pictures its figures too (tools/why_pictures.py): why SE is built so.

The page's numbers come from senet/evidence, benchmarks/results and published.toml, and from counting; a test compares
the page with what is written here.

python tools/why.py --pictures
"""

from __future__ import annotations

import functools
import runpy
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from senet.analysis.complexity import Complexity, count, equation_5
from senet.analysis.evidence.compare import compare_table
from senet.analysis.evidence.compared import Compared, Contrast
from senet.analysis.evidence.verdicts import interval
from senet.analysis.wording import plural, spread
from senet.models import create_model
from senet.published import figures as published_figures
from senet.recipes.evidence import SEEDS, evidence
from senet.recipes.tables import TABLES

Line = Mapping[str, Any]

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "why.md"
FREE = runpy.run_path(str(ROOT / "tools" / "free.py"))
IMAGE = (3, 224, 224)


def page(results: Mapping[str, Sequence[Line]], free: Mapping[str, Line]) -> str:
    """The page as Markdown, from the small comparisons by source and the measurements of free SE."""
    parts = [
        HEAD,
        _sigmoid(results),
        _ratio(results),
        _placement(results),
        MOBILE,
        _price(free),
        _not_for(results),
        _structures(results),
        _drawbacks(results, free),
    ]
    return _filled("\n\n".join(part.strip() for part in parts))


def _filled(text: str) -> str:
    """Paragraphs and points as lines of at most 120 letters; tables, pictures, headings and code as they are."""
    blocks = []
    for block in text.split("\n\n"):
        if block.startswith(("#", "!", "|", "```")):
            blocks.append(block)
            continue
        indent = "  " if block.startswith("- ") else ""
        how = textwrap.TextWrapper(120, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)
        points = block.replace("\n- ", "\n\n- ").split("\n\n")
        blocks.append("\n".join(how.fill(" ".join(point.split())) for point in points))
    return "\n\n".join(blocks) + "\n"


HEAD = """# Why SE is built so

Written by `tools/why.py`; not by hand. Its numbers come from the runs in `senet/evidence`, from
`benchmarks/results/free.jsonl` and from counting, its pictures from small networks whose weights the package or its
environment has. What each means is said in the paper ([arXiv 1709.01507](https://arxiv.org/abs/1709.01507)); what a
block costs and how it differs from others, in [blocks.md](blocks.md).

## What a block does

![A photograph, eight maps, their averages, their gates, and the maps times their gates](figures/why-steps.svg)

The photograph, and of the sixteen maps that reach the second block of our SE-ResNet-20 the eight that vary most, from
the smallest gate to the largest. *Squeeze*: each map becomes one number, its average. *Excite*: all averages together
go through two small layers and a sigmoid, which give one gate a map. *Scale*: each map is multiplied by its gate.
Nothing moves within a map, it is only made louder or quieter, by what the whole image holds.

```python
s = block.gates(u)  # (N, C, H, W) -> (N, C, 1, 1)
assert torch.equal(block(u), u * s)
```

## A convolution sees neighbours, a gate the whole image

![Pixels that the centre of a map depends on, with gates held constant and as it is](figures/why-field.svg)

How strongly the value at the centre of a map of the first stage depends on each pixel (its gradient, on a scale of
powers of ten). Held constant, the gates tell it nothing, and convolutions reach a few pixels: the local receptive
field. As it is, every pixel of the photograph counts, through the averages. That is why the squeeze is *global*: a
smaller window would be one more convolution. Plain networks reach the whole image too, but only in their last layers.

## Why two layers

![The average of a channel and its gate for many images, beside a sigmoid of the average](figures/why-layers.svg)

Each dot is an image; one channel a panel. Without layers a gate is a fixed function of its own average (the line), with
nothing to learn. With them the same average goes with many gates: the gate depends on what the *other* channels say.
One full layer would do for that, at C^2 weights (`"ese"`); two with a narrow middle take 2 C^2 / r, and the ReLU
between them lets a gate open on a combination of channels that no single layer can tell.

## Why a sigmoid and not a softmax

![Gates of an image, sorted: sigmoids, and a softmax of the same numbers](figures/why-sigmoid.svg)

The gates of the last stage's first block for the photograph, from smallest to largest, and what a softmax would make of
the same numbers. A softmax shares out a sum of 1: to open one channel it must close others, and each of C channels is
left with about 1 / C. Several channels matter at a time, so each has a sigmoid of its own.
"""


def _sigmoid(results: Mapping[str, Sequence[Line]]) -> str:
    relu, relu_paper = _beside_se(results, "12", "ReLU")
    tanh, tanh_paper = _beside_se(results, "12", "Tanh")
    return f"""
Of functions that do not compete either, the paper tries two (Table 12). ReLU can close a channel for good and has no
upper end; minus sigmoid, in points of error: the paper {relu_paper}; {relu}. Tanh turns a map's sign round where it is
negative: the paper {tanh_paper}; {tanh}.
"""


def _ratio(results: Mapping[str, Sequence[Line]]) -> str:
    """Equation 5 and errors by r."""
    found = {source: _table(lines, "10") for source, lines in results.items()}
    rows = []
    for index, row in enumerate(next(iter(found.values())).rows):
        options = dict(row.entry.options)
        if row.plain is None:
            weights = "0"
        else:
            stages = equation_5(_on_meta("seresnet50", **options))
            weights = f"{sum(stage.weights for stage in stages):,}"
        errors = [spread(compared.rows[index].error) for compared in found.values()]
        rows.append([row.entry.label if row.plain else "no SE", weights, str(row.published), *errors])
    best = min(_table((), "10").rows, key=lambda row: row.published or 100).entry.label
    told = [c for compared in found.values() for row in compared.rows if (c := row.standard) and c.paired.spread]
    return f"""
## Why r = 16

{_markdown(["", "weights in SE-ResNet-50, equation 5", "the paper's error, %", *found], rows)}

Equation 5 is (2 / r) times the sum of N C^2 over stages (`senet info seresnet50` shows it stage by stage). Half of r
costs twice the weights; the paper's errors do not follow: {best} has the least, and r = 16 hardly more with fewer
weights. In our small networks, whose blocks have 16 to 64 channels, {sum(c.paired.shown for c in told)} of
{plural(len(told), "difference")} to r = 16 are shown. So r is no fine-tuned number: take 16, and 8 or 4 where maps have
few channels and a hidden layer would be left with one or two.
"""


def _placement(results: Mapping[str, Sequence[Line]]) -> str:
    found = {source: _table(lines, "14") for source, lines in results.items()}
    rows = []
    for index, row in enumerate(next(iter(found.values())).rows):
        if row.plain is not None:
            differences = [_against(compared.rows[index].plain) for compared in found.values()]
            rows.append([row.entry.label, WHERE[row.entry.label], str(row.published), *differences])
    return f"""
## Where to put it

{_markdown(["", "the block sits", "the paper's error, %", *(f"{s}: minus no SE, points" for s in found)], rows)}

Before the sum, the gate can weigh the branch against the shortcut; after it (POST), it also scales what the shortcut
carries, and the paper's error rises. What is in bold is shown by the seeds ([reproduce.md](reproduce.md), Table 14);
for the rest our seeds are too few to tell. In other networks: after each convolution's activation in plain chains
(VGG), on the output of an Inception module, and in mobile units as below.
"""


WHERE = {
    "SE": "at the branch's end, before the sum",
    "SE-PRE": "before the branch",
    "SE-POST": "after sum and ReLU",
    "SE-Identity": "on the shortcut, beside the branch",
}


MOBILE = """
## In a mobile unit

![A line of text, maps after a depthwise convolution, their gates, and the maps scaled](figures/why-mbconv.svg)

MobileNetV3's and EfficientNet's units widen a map, filter each channel by itself (a depthwise convolution) and narrow
it again. SE sits in the middle, where channels are many and each was filtered by itself. Shown is the second unit with
a block of a network that others trained to tell upright from turned lines of text ([textline.md](textline.md)). Its
gates are hard sigmoids: piecewise linear, cheap to compute, exactly 0 or 1 at their ends.
"""


def _price(free: Mapping[str, Line]) -> str:
    increase = _increase("multiply_adds_increase")
    kept, fused = (free["counts"][key] for key in ("kept_seresnet50", "kept_fused_seresnet50"))
    cost = _cost("seresnet50")
    plain = cost.total.parameters - cost.attention.parameters
    work = 100 * cost.attention.multiply_adds / (cost.total.multiply_adds - cost.attention.multiply_adds)
    return f"""
## What it costs, and what takes the cost away

![SE-ResNet-50 relative to ResNet-50 in time and bytes, as it is and free](figures/why-cost.svg)

Counted, SE is nearly free: in SE-ResNet-50 {100 * cost.attention.parameters / plain:.1f} % more parameters and
{work:.2f} % more multiply-adds (the paper prints {increase} %). Timed, it is not: reading each map once more for its
average and once more for the product are passes over memory that no multiply-add shows, and training keeps the maps
before their product: {kept:.2f} times the bytes of ResNet-50. `senet.fuse` takes the average out of the norm's own sums
and puts the gate into the pass that adds the shortcut; same weights, same outputs, {fused:.3f} times the bytes. For
inference `senet.fold` moves the pool before the last 1x1 convolution. Small networks on small maps gain no time. All
measurements, also those that missed their target: [free.md](free.md).
"""


def _not_for(results: Mapping[str, Sequence[Line]]) -> str:
    pairs = [(source, contrast) for source, lines in results.items() for contrast in _table(lines, "2").contrasts]
    shown = [(source, c) for source, c in pairs if c.paired.shown and c.paired.spread]
    worse = [
        f"{c.entry.label} minus {c.reference.label} is {interval(c)} points of error on {source}"
        for source, c in shown
        if c.paired.spread and c.paired.spread.mean > 0
    ]
    told = "".join(f"; {each}" for each in worse)
    last = equation_5(_on_meta("seresnet50"))
    share = 100 * last[-1].parameters / sum(stage.parameters for stage in last)
    return f"""
## When not to use it

- **Small networks trained briefly.** Of {len(pairs)} pairs in our small comparisons ([reproduce.md](reproduce.md))
  SE is shown to be better in {len(shown) - len(worse)} and worse in {len(worse)}{told}. Give the epochs to the plain
  network first.
- **Parameters are scarce**: leave the last stage without blocks, where {share:.0f} % of SE-ResNet-50's are
  (`stages=(2, 3, 4)`); the paper loses less than {_increase("top5_loss_below")} points of top-5 by it.
- **Latency at batch 1 on fast hardware**: a pool, two tiny layers and a product are four dependent steps. Measure with
  `senet tax MODEL`, and fold.
- **The answer lies in positions**: a gate is the same everywhere in the image. Coordinate attention, CBAM and
  Gather-Excite's windows know positions.
- **Gates that do not move**: `senet excite RUN` shows which of yours are constants, `senet prune RUN` takes them out.
"""


def _structures(results: Mapping[str, Sequence[Line]]) -> str:
    found = {source: _table(lines, "structures") for source, lines in results.items()}
    rows = []
    for index, row in enumerate(next(iter(found.values())).rows):
        if row.entry.label in STRUCTURES:
            build, wrong = STRUCTURES[row.entry.label]
            against = [_against(compared.rows[index].standard) for compared in found.values()]
            rows.append([row.entry.label, build, wrong, *against])
    return f"""
## Three structures that are drawn for SE, and are not

{_markdown(["", "here", "wrong because", *(f"{source}: minus SE, points" for source in found)], rows)}

`senet reproduce structures --check train` trains them beside SE and the plain network, five seeds each.
"""


STRUCTURES = {
    "scale without layers": (
        '`senet.create_block("ge", C)`: Gather-Excite without parameters',
        "there is nothing to learn, and a channel's gate knows its own average alone",
    ),
    "convolution for squeeze": (
        '`attn_options={"squeeze": "conv"}`',
        "a 3x3 convolution sees nine positions and not the map, at 4.5 r times the weights of SE's layers",
    ),
    "gate of the input": (
        '`placement="parallel"`',
        "the gate comes from the unit's input X and is applied to U: it does not know the map that it recalibrates",
    ),
}


def _drawbacks(results: Mapping[str, Sequence[Line]], free: Mapping[str, Line]) -> str:
    step, fused = (free["train"][key][0] for key in ("se", "fused"))
    kept, kept_fused = (free["counts"][key] for key in ("kept_seresnet50", "kept_fused_seresnet50"))
    local, local_paper = _beside_se(results, "16", "NoSqueeze")
    wide, wide_paper = _beside_se(results, "10", "r = 2")
    passing = {name: _more(name) for name in ("cbam", "coord", "se")}
    return f"""
## Four drawbacks that are named, and our answers

**It costs parameters and arithmetic.** True of parameters, and most of them are in the last stage, which can go
without. True of time until it is fused: a training step takes {step:.3f} times as long as ResNet-50's, and fused
{fused:.3f} times.

![Weights that SE adds to SE-ResNet-50, stage by stage](figures/why-stages.svg)

**The product makes a second map as large as the first**, and training keeps both. The authors wrote a layer of their
own against it (Axpy); `fuse` does without the second map: {kept:.3f} times ResNet-50's bytes become {kept_fused:.3f},
in the picture of the cost above.

**The narrow middle loses information.** Then a wide one should win. In points of error, r = 2 minus r = 16: the paper
{wide_paper}; {wide}. Where you doubt it, `"ese"` has one full layer and `"eca"` no middle at all.

![Errors by ratio, all seeds](figures/reproduce-cifar10-10.svg)

**It knows no positions.** By design: the squeeze trades positions for the whole image. A gate for every position and no
squeeze (Table 16), minus SE, in points of error: the paper {local_paper}; {local}. So the paper's trade pays at its
size, and what our small networks on small images say of it stands here as it came out. Blocks that keep positions cost
more: added to ResNet-50, `"se"` is {passing["se"]}, `"cbam"` {passing["cbam"]} and `"coord"` {passing["coord"]}
multiply-adds, and passes over the map besides ([blocks.md](blocks.md)).

![Errors without a squeeze, all seeds](figures/reproduce-cifar10-16.svg)

And where to put it and which r to take are left open by the article; the sections above say what is known.
"""


def _beside_se(results: Mapping[str, Sequence[Line]], number: str, label: str) -> tuple[str, str]:
    """A row of a table minus the paper's block: here, on each set of images, and as printed."""
    here = []
    for source, lines in results.items():
        (row,) = (row for row in _table(lines, number).rows if row.entry.label == label)
        assert row.standard is not None
        here.append(f"{source} {_against(row.standard)} ({'shown' if row.standard.paired.shown else 'not shown'})")
        (printed,) = row.standard.published
    return "; ".join(here), f"{printed:+.2f}".replace("-", "\N{MINUS SIGN}")


def _more(name: str) -> str:
    """Multiply-adds that a block adds to ResNet-50, in percent."""
    one, other = (_cost("resnet50", attn).total.multiply_adds for attn in (name, None))
    return f"{100 * (one / other - 1):+.2f} %"


@functools.cache
def _cost(name: str, attn: str | None = None) -> Complexity:
    return count(_on_meta(name, **({"attn": attn} if attn else {})), IMAGE)


def _increase(metric: str) -> str:
    (figure,) = published_figures(edition="tpami", table="text: overhead", metric=metric)
    return str(figure.value)


def _table(lines: Sequence[Line], number: str) -> Compared:
    table = TABLES[number]
    return compare_table(lines, table.small, table.baseline, number=number, seeds=SEEDS, title=table.title)


def _against(contrast: Contrast | None) -> str:
    """A difference with its interval, bold where it is shown."""
    if contrast is None or contrast.paired.spread is None:
        return "not run"
    return f"**{interval(contrast)}**" if contrast.paired.shown else interval(contrast)


def _markdown(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _on_meta(name: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return create_model(name, **options)


def newest() -> tuple[Mapping[str, Sequence[Line]], Mapping[str, Line]]:
    """What :func:`page` takes: results of the small comparisons, and measurements of free SE."""
    return {source: ledger.lines for source, ledger in evidence().items()}, FREE["newest"]()["kept"]


if __name__ == "__main__":
    PAGE.write_text(page(*newest()))
    if sys.argv[1:] == ["--pictures"]:
        runpy.run_path(str(ROOT / "tools" / "why_pictures.py"), run_name="__main__")
