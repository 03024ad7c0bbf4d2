"""Every gated product taken or left with a reason, and the same numbers as before: what is asked of each network.

benchmarks/architectures.py asks it of timm's and torchvision's networks, benchmarks/packages.py of other packages'.
"""

from __future__ import annotations

import gc
import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from dispatched import Account, Product, account, counted, gated_products, prepared
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

import senet

__all__ = ["commit", "measured", "newest", "put", "stale"]

ROOT = Path(__file__).parents[1]
# What decides the results: a row of an older state says nothing of the newest.
ENGINE = ("senet/surgery", "senet/blocks/free.py", "senet/kernels")
ALLOWED = 1e-10
Inputs = Sequence[tuple[Any, ...]]


def measured(build: Callable[[], nn.Module], inputs: Inputs, *, example: bool = False) -> dict[str, Any]:
    """Notes what `fuse`, `fold` and `record` do with a network, and how far its numbers are from its own.

    Differences are relative to the largest number; where one is above 1e-10, ``rounding`` says what the last bit of the
    input makes in the network itself.

    Args:
        build: makes the network.
        inputs: what its forward takes, in float64, at each size.
        example: whether the first input is given to the verbs; without, they choose their own images.
    """
    start = time.process_time()
    model = prepared(build(), *inputs[0])
    given = {"example": inputs[0]} if example else {}
    products = gated_products(model, *inputs[0])
    kinds = counted(products)
    row: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "gates": kinds.get("average", 0),
        "more": kinds.get("more", 0),
        "last": kinds.get("last", 0),
        "calls": sum(product.calls for product in products),
        "inputs": [[list(x.shape) for x in tree_leaves(args) if isinstance(x, Tensor)] for args in inputs],
    }
    norms = {path for path, module in model.named_modules() if "running_mean" in module._buffers}
    own = {
        mode: [_ran(model, args, training=mode == "training") for args in inputs] for mode in ("evaluation", "training")
    }
    for verb, check in (("fuse", _fused), ("fold", _folded), ("record", _recorded)):
        try:
            row[verb] = check(model, inputs, own, given, products, norms)
        except Exception as error:
            row[verb] = {"error": f"{type(error).__name__}: {error}"[:300]}
        gc.collect()
    found = [row[verb].get(what, 0.0) for verb in ("fuse", "fold") for what in ("evaluation", "training")]
    if max(found) > ALLOWED:
        row["rounding"] = {mode: _rounding(model, inputs, own[mode], mode) for mode in own}
    return row | {"seconds": round(time.process_time() - start, 1)}


def _fused(model: nn.Module, inputs: Inputs, own: Any, given: Any, products: Any, norms: Any) -> dict[str, Any]:
    before = _identity(model)
    done = senet.report(senet.fuse(model, **given))
    try:
        found = _differences(model, inputs, own, ("evaluation", "training"))
    finally:
        kept = list(model.state_dict()) == before[1]
        senet.unfuse(model)
    restored = kept and _identity(model) == before
    restored &= all(
        _difference(_ran(model, args, training=False), own["evaluation"][at]) == 0 for at, args in enumerate(inputs)
    )
    return _said(products, done.taken, done.left, norms) | found | {"restored": restored}


def _folded(model: nn.Module, inputs: Inputs, own: Any, given: Any, products: Any, norms: Any) -> dict[str, Any]:
    copy = senet.fold(model.eval(), **given)
    done = senet.report(copy)
    found = _differences(copy, inputs, own, ("evaluation",))
    return _said(products, done.taken, done.left, norms) | found


def _recorded(model: nn.Module, inputs: Inputs, own: Any, given: Any, products: Any, norms: Any) -> dict[str, Any]:
    with senet.record(model.eval(), **given) as recording:
        found = _differences(model, inputs[:1], own, ("evaluation",))
    return (
        _said(products, [(site, "recorded") for site in recording.sites if "#" not in site], recording.left, norms)
        | found
    )


def _said(products: Sequence[Product], taken: Any, left: Any, norms: Any) -> dict[str, Any]:
    """How many gated products were taken, which were left and why, and of which nothing was said."""
    rows = [(path, True, what) for path, what in taken if path not in norms]
    rows += [(path, False, why) for path, why in left if path not in norms]
    told: Account = account(
        sorted(products, key=lambda product: product.kind != "average"),
        [(path, str(at)) for at, (path, *_) in enumerate(rows)],
    )
    said = {product: rows[int(at)] for product, (_, at) in told.said.items()}
    average = {product: row for product, row in said.items() if product.kind == "average"}
    return {
        "taken": sum(row[1] for row in average.values()),
        "left": dict(Counter(row[2] for row in average.values() if not row[1])),
        "silent": [product.path for product in told.silent if product.kind == "average"],
        "others": [[path, rows[int(at)][2]] for path, at in told.others][:10],
        "more_taken": sum(row[1] for product, row in said.items() if product.kind != "average"),
        "norms": sum(path in norms for path, _ in taken),
    }


def _identity(model: nn.Module) -> tuple[Any, ...]:
    return [(id(m), type(m)) for m in model.modules()], list(model.state_dict())


def _differences(model: nn.Module, inputs: Inputs, own: Any, modes: Sequence[str]) -> dict[str, float]:
    return {
        mode: max(
            _difference(_ran(model, args, training=mode == "training"), own[mode][at]) for at, args in enumerate(inputs)
        )
        for mode in modes
    }


def _ran(model: nn.Module, args: tuple[Any, ...], *, training: bool) -> dict[str, Any]:
    """The outputs of a run; in training also gradients and running statistics, after which all is as it was."""
    model.train(training)
    torch.manual_seed(0)
    if not training:
        with torch.no_grad():
            return {"outputs": _floats(model(*tree_map(_copied, args)))}
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    args = tree_map(lambda x: _copied(x).requires_grad_() if _is_float(x) else x, args)
    outputs = _floats(model(*args))
    weights = torch.Generator().manual_seed(1)
    sum(
        (y * torch.randn(y.shape, generator=weights, dtype=y.dtype)).sum() for y in outputs if y.requires_grad
    ).backward()
    # Each parameter's gradient by its product with random numbers: all of them would take a copy of the network.
    sketches = [
        (parameter.grad * torch.randn(parameter.shape, generator=weights, dtype=parameter.dtype)).sum()
        if parameter.grad is not None
        else torch.zeros((), dtype=torch.float64)
        for parameter in model.parameters()
    ]
    found = {
        "outputs": [y.detach() for y in outputs],
        "gradients": [x.grad for x in tree_leaves(args) if _is_float(x) and x.grad is not None],
        "parameters": [torch.stack(sketches)] if sketches else [],
        "statistics": [buffer.clone() for buffer in model.buffers() if _is_float(buffer)],
    }
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(kept[name])
    model.eval()
    return found


def _is_float(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def _copied(x: Any) -> Any:
    return x.clone() if isinstance(x, Tensor) else x


def _floats(output: Any) -> list[Tensor]:
    return [y for y in tree_leaves(dict(output) if isinstance(output, Mapping) else output) if _is_float(y)]


def _difference(got: Mapping[str, Any], wanted: Mapping[str, Any]) -> float:
    """The largest, relative to the largest number of each tensor."""
    largest = 0.0
    for what, tensors in wanted.items():
        if [y.shape for y in got[what]] != [y.shape for y in tensors]:
            return float("inf")
        for one, other in zip(got[what], tensors, strict=True):
            if other.numel():
                scale = float(other.abs().max())
                found = float((one - other).abs().max()) / (scale or 1.0)
                largest = max(largest, found if found == found else float("inf"))
    return largest


def _rounding(model: nn.Module, inputs: Inputs, own: Sequence[Mapping[str, Any]], mode: str) -> float:
    def moved(x: Any) -> Any:
        return torch.nextafter(x, torch.full_like(x, 9.0)) if _is_float(x) else x

    return max(
        _difference(_ran(model, tree_map(moved, args), training=mode == "training"), own[at])
        for at, args in enumerate(inputs)
    )


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit() -> str:
    """The commit that is measured, ``-dirty`` if the package has changes that are in none."""
    return _git("rev-parse", "--short", "HEAD") + ("-dirty" if _git("status", "--porcelain", "--", "senet") else "")


def stale() -> Callable[[Mapping[str, Any]], bool]:
    """Whether a row was measured before the last commit that changed the engine, or of no commit."""
    last = _git("log", "-1", "--format=%H", "--", *ENGINE)
    known: dict[str, bool] = {}

    def is_stale(row: Mapping[str, Any]) -> bool:
        at = row.get("commit", "")
        if at not in known:
            behind = ["git", "merge-base", "--is-ancestor", last, at]
            known[at] = (
                not at or at.endswith("-dirty") or subprocess.run(behind, cwd=ROOT, capture_output=True).returncode != 0
            )
        return known[at]

    return is_stale


def newest(path: Path) -> dict[str, dict[str, Any]]:
    """The last row of each network, by its name."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {row["name"]: row for row in map(json.loads, lines)}


def put(path: Path, row: Mapping[str, Any]) -> None:
    """Writes a row in the place of the network's older one."""
    rows = newest(path) | {row["name"]: row}
    new = path.with_suffix(".new")
    new.write_text("".join(json.dumps(each) + "\n" for each in rows.values()))
    new.replace(path)


def mark(path: Path) -> Iterator[str]:
    """Marks rows of older states, and gives their names."""
    is_stale = stale()
    for name, row in newest(path).items():
        if is_stale(row):
            put(path, row | {"stale": True})
            yield name
