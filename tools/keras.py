"""Writes docs/keras.md from benchmarks/results/keras.jsonl. A test compares the page with this.

python tools/keras.py
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "keras.md"
RESULTS = ROOT / "benchmarks" / "results" / "keras.jsonl"
Rows = Sequence[Mapping[str, Any]]
HEAD = """# SE for Keras 3

Written by `tools/keras.py` from what `benchmarks/keras_backends.py` measured; not by hand.

`pip install 'senet[keras]'` brings Keras; `import senet.keras` gives `SqueezeExcite`, `EffectiveSE`, `ECA` and `CBAM`
as layers, and `squeeze_and_excitation_block(input, out_dim, reduction_ratio)` as tutorials write it. `attach` makes a
copy of a Functional model with SE behind the layers that it is told. `from_torch` and `to_torch` take a block over with
its weights, `create_model` makes a residual network by its name, and `copy_weights` fills a network from its
counterpart, in either direction.

```python
import os

os.environ["KERAS_BACKEND"] = "torch"  # or "jax", "tensorflow"; before Keras is imported first

import keras
import senet.keras

model = keras.applications.MobileNet((64, 64, 3), weights=None, classes=10)
model = senet.keras.attach(model, where="conv_dw_*_relu")  # the same outputs at first
model.compile("adam", "sparse_categorical_crossentropy")

seresnet = senet.keras.create_model("cifar_seresnet20")  # pretrained=True: weights of PyTorch
back = senet.create_model("cifar_seresnet20")
senet.keras.copy_weights(seresnet, back)
```

What to know:

- Keras takes its backend from `KERAS_BACKEND`, or else from `~/.keras/keras.json`, which says `tensorflow` where nobody
  has changed it. PyTorch is loaded under every backend, since the blocks that weights come from are its.
- A `.keras` file says `senet>SqueezeExcite`: `import senet.keras` first, or Keras cannot read it.
- Squeeze and gate are computed in float32 under mixed policies, as senet's blocks do under autocast.
- TensorFlow convolves channels-first images on a GPU only. The layers here work channels-first on its CPU too, networks
  do not.
- Keras's norms keep the biased variance of a batch, PyTorch's the unbiased one: networks agree in evaluation, and drift
  apart by 1/n, of n numbers a channel, in the running variance of training.
- Padding that keeps the size with a stride is lopsided in Keras; networks made here pad as PyTorch does.
- No layer normalises the images. What pretrained weights want of them, pixels of 0..1 less a mean over a standard
  deviation, `senet.create_model(name, pretrained=True).loaded.preprocessing` says.
"""


def page(rows: Rows) -> str:
    """The page as Markdown, from the rows of a run."""
    run = next(row for row in rows if row["what"] == "run")
    versions = _of(rows, "versions")
    backends = [row["backend"] for row in versions]
    lines = [
        HEAD,
        f"Measured at {run['commit']} on the CPU ({run['machine']}), each backend in an environment of its own:",
        "",
        *(f"- {_named_versions(row)}" for row in versions),
        "",
        "Differences are the largest, relative to the largest number that PyTorch, or the model before, gives.",
        "Weights, biases and norms were random.",
        "",
        "## Layers beside the blocks of PyTorch",
        "",
        *_blocks(_of(rows, "block"), backends),
        "",
        "## Networks with the weights of PyTorch",
        "",
        *_table(
            ("network", "data format"),
            backends,
            _of(rows, "network"),
            lambda row: (row["network"], row["data_format"]),
            lambda row: f"refused ({row['error']})" if "error" in row else _number(row["difference"]),
        ),
        "",
        "## Training",
        "",
        "All four layers in a row, each with the weights of a block, in a model trained by Keras: the loss at each of",
        "four steps of SGD from the same weights, on the same batch.",
        "",
        *_table(
            ("step",),
            backends,
            [
                {"step": str(step), "loss": loss}
                for row in _of(rows, "training")
                for step, loss in enumerate(row["losses"], 1)
            ],
            lambda row: (row["step"],),
            lambda row: f"{row['loss']:.7f}",
        ),
        "",
        "## Files written under one backend, read under another",
        "",
        *_table(
            ("model", "written under"),
            [f"read under {backend}" for backend in backends],
            _of(rows, "file"),
            lambda row: (row["model"], row["writer"]),
            lambda row: _number(row["difference"]),
        ),
        "",
        "## Networks of keras.applications with SE attached",
        "",
        "Before and after, with fresh weights and random norms, in evaluation. SE that starts as in the paper changes",
        "the outputs, which shows that the comparison can fail.",
        "",
        *_table(
            ("network", "behind", "blocks"),
            [f"{backend}, {start}" for backend in backends for start in ("identity", "paper")],
            [row | {"start": start} for row in _of(rows, "clone") for start in ("identity", "paper")],
            lambda row: (row["network"], f"`{row['where']}`", str(row["sites"])),
            lambda row: "identical" if row[row["start"]] == 0 else _number(row[row["start"]]),
        ),
        "",
    ]
    return "\n".join(lines)


def _of(rows: Rows, what: str) -> list[dict[str, Any]]:
    return [dict(row) for row in rows if row["what"] == what]


def _named_versions(row: Mapping[str, Any]) -> str:
    names = [name for name in row if name not in ("what", "backend")]
    return f"{row['backend']}: {', '.join(f'{name} {row[name]}' for name in names)}"


def _blocks(rows: Rows, backends: Sequence[str]) -> Iterable[str]:
    back = sum(row["weights_back"] for row in rows)
    yield f"Weights came back to PyTorch as the same bits in {back} of {len(rows)} cases. Under mixed_bfloat16 the map"
    yield "is bfloat16, the last bit of which is between 3.9e-3 and 7.8e-3 of a number."
    yield ""
    yield from _table(
        ("layer", "policy", "data format"),
        backends,
        sorted(rows, key=lambda row: row["policy"]),
        lambda row: (row["layer"], row["policy"], row["data_format"]),
        lambda row: _number(row["difference"]),
    )


def _table(heads: Sequence[str], columns: Sequence[str], rows: Rows, key: Any, cell: Any) -> Iterable[str]:
    """A table with a line for each key, whose cells stand in the order of the rows that have it."""
    cells: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        cells.setdefault(key(row), []).append(cell(row))
    assert all(len(line) == len(columns) for line in cells.values())
    yield f"| {' | '.join([*heads, *columns])} |"
    yield f"|{'---|' * len(heads)}{'--:|' * len(columns)}"
    for names, line in cells.items():
        yield f"| {' | '.join([*names, *line])} |"


def _number(difference: float) -> str:
    return f"{difference:.1e}" if difference else "0"


def newest() -> list[dict[str, Any]]:
    """The rows of the last run, the only one that is kept."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


if __name__ == "__main__":
    PAGE.write_text(page(newest()))
