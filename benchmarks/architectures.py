"""Measures what `fuse`, `fold` and `record` do with every architecture of timm and torchvision that has a gate.

These are found by what they compute: a run of each is searched for gated products (benchmarks/dispatched.py), once for
each version of timm and torchvision; benchmarks/results/gated.jsonl keeps what was found. Then, smallest first, each
gated product has to be taken or left with a reason, and the numbers have to stay the same (benchmarks/agreement.py).
Rows are written as they come and say which commit was measured; a network that has a row of the newest state is left
out, so an interrupted run goes on. Minutes for the search, hours for all.

    python benchmarks/architectures.py --search --largest 100
    python benchmarks/architectures.py --count 130
"""

from __future__ import annotations

import argparse
import gc
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from agreement import commit, mark, measured, newest, put, stale
from dispatched import counted, gated_products, may_have_gates, prepared
from torch import nn

RESULTS = Path(__file__).parent / "results" / "architectures.jsonl"
GATED = RESULTS.with_name("gated.jsonl")
VERSIONS = {"torch": torch.__version__, "timm": timm.__version__, "torchvision": torchvision.__version__}
# Two sizes, small, not square, and with more than one pixel after a stride of 32; then larger ones.
SIZES = (
    ((64, 96), (64, 128)),
    ((96, 128), (96, 160)),
    ((128, 160), (128, 192)),
    ((224, 256), (224, 288)),
    ((320, 384), (320, 448)),
)


def build(name: str) -> nn.Module:
    """A network with fresh weights, by timm's name or torchvision:NAME."""
    source, _, rest = name.rpartition(":")
    torch.manual_seed(0)
    if not source:
        return timm.create_model(rest)
    # Segmentation networks would load weights of their backbone otherwise.
    segments = "segmentation" in torchvision.models.get_model_builder(rest).__module__
    backbone = {"weights_backbone": None} if segments else {}
    return torchvision.models.get_model(rest, weights=None, **backbone)


def names() -> list[str]:
    """All architectures that take a batch of images and nothing else."""
    models = torchvision.models
    theirs = [name for room in (models, models.segmentation) for name in models.list_models(room)]
    return timm.list_models() + [f"torchvision:{name}" for name in theirs]


def _on_meta(name: str) -> nn.Module | None:
    """A network without memory, where that can be done."""
    try:
        with torch.device("meta"):
            return build(name).eval()
    except (NotImplementedError, RuntimeError):  # it computes with numbers while it is built
        return None


def _inputs(model: nn.Module) -> Iterator[Sequence[tuple[int, ...]]]:
    """Shapes to try: two sizes and batches, small ones first, then the size that a network states."""
    stated = getattr(model, "pretrained_cfg", None) or {}
    channels, *own = stated.get("input_size", (3, 224, 224))
    for one, other in (*SIZES, (tuple(own), tuple(own))):
        yield (2, channels, *one), (3, channels, *other)


def _takes(model: nn.Module, shape: tuple[int, ...]) -> bool:
    at = next(model.parameters())
    try:
        with torch.no_grad():
            model(torch.zeros(shape, dtype=at.dtype, device=at.device))
    except Exception:
        return False
    return True


def searched(name: str, largest: float) -> dict[str, Any] | None:
    """How many gated products a network has, and of what shapes its inputs are to be; None if it is too large."""
    start = time.process_time()
    model = _on_meta(name)
    parameters = None if model is None else sum(p.numel() for p in model.parameters())
    if parameters is not None and parameters > largest:
        return None
    on_meta = next((s for s in _inputs(model) if all(_takes(model, x) for x in s)), None) if model else None
    row: dict[str, Any] = {"name": name, "parameters": parameters, "gates": 0, "more": 0}
    if on_meta is None or may_have_gates(model, torch.zeros(on_meta[0], device="meta")):
        model = build(name).eval()
        row["parameters"] = sum(p.numel() for p in model.parameters())
        if row["parameters"] > largest:
            return None
        shapes = next((s for s in _inputs(model) if all(_takes(model, x) for x in s)), None)
        if shapes is None:
            return row | {"error": "takes no size that was tried"} | VERSIONS
        x = torch.randn(shapes[0], dtype=torch.float64)
        kinds = counted(gated_products(prepared(model, x), x))
        row |= {"gates": kinds.get("average", 0), "more": kinds.get("more", 0), "last": kinds.get("last", 0)}
        row["inputs"] = shapes
    return row | {"seconds": round(time.process_time() - start, 1)} | VERSIONS


def search(largest: float, wanted: Sequence[str]) -> None:
    """Searches architectures that were not searched yet, in these versions of timm and torchvision."""
    done = newest(GATED)
    used = ("timm", "torchvision")
    for name in wanted or names():
        if all(done.get(name, {}).get(package) == VERSIONS[package] for package in used):
            continue
        try:
            row = searched(name, largest)
        except Exception as error:
            row = {"name": name, "gates": 0, "error": f"{type(error).__name__}: {error}"[:300]} | VERSIONS
        if row is not None:
            put(GATED, row)
            print(json.dumps(row), flush=True)
        gc.collect()


def line(gated: dict[str, Any], at: str) -> dict[str, Any]:
    """The row of one architecture, measured at a commit; an error is a result too."""
    warnings.filterwarnings("ignore")  # timm's, about its own
    torch.set_num_threads(1)
    torch.manual_seed(0)
    inputs = [(torch.randn(shape, dtype=torch.float64),) for shape in gated["inputs"]]
    about = {"name": gated["name"], "parameters": gated["parameters"]}
    try:
        found = measured(lambda: build(gated["name"]), inputs)
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"[:300]}
    return about | found | VERSIONS | {"commit": at}


def main() -> None:
    """Takes the architectures that have no row of this state of senet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="architectures; none: all without a row of this state")
    parser.add_argument("--largest", type=float, default=150, help="million parameters, each held thrice in float64")
    parser.add_argument("--count", type=int, help="the smallest so many only")
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time, a process each")
    parser.add_argument("--search", action="store_true", help="search for architectures with gates, and no more")
    parser.add_argument("--keep", action="store_true", help="mark rows of an older state instead of taking them again")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # timm's, about its own
    torch.set_num_threads(1)
    if options.search:
        search(options.largest * 1e6, options.names)
        return
    gated = [row for row in newest(GATED).values() if row["gates"] + row.get("more", 0) + row.get("last", 0)]
    gated.sort(key=lambda row: (row["parameters"], row["name"]))
    gated = [row for row in gated if row["parameters"] <= options.largest * 1e6][: options.count]
    if options.keep:
        print("marked:", *mark(RESULTS))
    is_stale, done = stale(), newest(RESULTS)
    left_out = {name for name, row in done.items() if options.keep or not is_stale(row)}
    todo = [row for row in gated if (row["name"] in options.names if options.names else row["name"] not in left_out)]
    for at, row in enumerate(_lines(todo, commit(), options.jobs), 1):
        put(RESULTS, row)
        print(f"{at} of {len(todo)}: {json.dumps(row)}", flush=True)


def _lines(todo: Sequence[dict[str, Any]], commit: str, jobs: int) -> Iterator[dict[str, Any]]:
    if jobs == 1:
        yield from (line(row, commit) for row in todo)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), max_tasks_per_child=8) as pool:
        for done in as_completed([pool.submit(line, row, commit) for row in todo]):
            yield done.result()


if __name__ == "__main__":
    main()
