"""What `senet.fuse` and `senet.fold` do with every architecture of timm and torchvision that holds a gate.

Each in float64 with random norms. `fuse` compares each module that it takes over by itself; here is noted what it
takes, that `unfuse` gives back, and how far the folded network's outputs lie from the network's. Smallest first; a
network that has a line already is left out, so an interrupted run goes on. Hours for all.

    python benchmarks/architectures.py --largest 150
"""

from __future__ import annotations

import argparse
import gc
import json
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, fx, nn

import senet
from senet.surgery.trace import is_norm, randomise_norms

RESULTS = Path(__file__).parent / "results" / "architectures.jsonl"
GATES = {
    *("SEModule", "SqueezeExcite", "SqueezeExcitation", "EffectiveSEModule", "EcaModule", "CecaModule"),
    "SqueezeExcitationLayer",
}
SIZES = (64, 128, 224, 256, 299)


def build(name: str) -> nn.Module:
    """A network with fresh weights, by timm's name or torchvision:NAME."""
    source, _, rest = name.rpartition(":")
    torch.manual_seed(0)
    return torchvision.models.get_model(rest, weights=None) if source else timm.create_model(rest)


def with_gates() -> Iterator[tuple[int, str, int]]:
    """Parameters, name and gates of every architecture that has any; built without memory where that can be done."""
    names = [f"torchvision:{name}" for name in torchvision.models.list_models(torchvision.models)]
    for name in timm.list_models() + names:
        try:
            with torch.device("meta"):
                model = build(name)
        except NotImplementedError:  # it computes with numbers while it is built
            model = build(name)
        gates = sum(type(module).__name__ in GATES for module in model.modules())
        if gates:
            yield sum(p.numel() for p in model.parameters()), name, gates


def made(name: str) -> nn.Module:
    """In float64 and evaluation, its norms random."""
    model = build(name).double().eval()
    randomise_norms(model)
    return model


def fused(model: nn.Module) -> dict[str, Any]:
    """What `fuse` takes and leaves, and whether `unfuse` gives back every class and key."""
    before = [(id(m), type(m)) for m in model.modules()], list(model.state_dict())
    done = senet.report(senet.fuse(model))
    kept_keys = list(model.state_dict()) == before[1]
    senet.unfuse(model)
    restored = kept_keys and ([(id(m), type(m)) for m in model.modules()], list(model.state_dict())) == before
    return {"taken": len(done.taken), "left": _reasons(done.left), "restored": restored}


def folded(model: nn.Module) -> dict[str, Any]:
    """What `fold` takes and leaves, and the largest relative difference of its outputs.

    Where that is above 1e-10, it is compared with what rounding makes in the network itself: the last bit of the input
    changed, or sums in the order of channels-last maps. Some networks with random weights make as much of it. Then each
    unit that was rewritten is compared too, given what it is given in the network.
    """
    copy = senet.fold(model)
    done = senet.report(copy)
    norms = {path for path, m in model.named_modules() if is_norm(m)}
    gates = sum(not what.startswith("norm folded") for _, what in done.taken)
    x, wanted = images(model)
    with torch.no_grad():
        result: dict[str, Any] = {
            "gates": gates,
            "left": _reasons([row for row in done.left if row[0] not in norms]),
            "norms": len(done.taken) - gates,
            "norms_left": sum(path in norms for path, _ in done.left),
            "size": x.shape[-1],
            "difference": _difference(copy(x), wanted),
        }
        if result["difference"] > 1e-10:
            others = (torch.nextafter(x, torch.full_like(x, 9.0)), x.to(memory_format=torch.channels_last))
            result["rounding"] = max(_difference(model(other), wanted) for other in others)
            result["units"] = units(model, copy, x)
    return result


def units(model: nn.Module, copy: nn.Module, x: Tensor) -> float:
    """The largest relative difference of a unit: what `fold` rewrote as a graph, which is what holds a gate."""
    graphs = [name for name, module in copy.named_modules() if isinstance(module, fx.GraphModule)]
    names = [name for name in graphs if not any(name.startswith(f"{other}.") for other in graphs)]
    largest = 0.0

    def compare(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal largest
            largest = max(largest, _difference(copy.get_submodule(name)(*args), output))

        return hook

    hooks = [model.get_submodule(name).register_forward_hook(compare(name)) for name in names]
    model(x)
    for handle in hooks:
        handle.remove()
    return largest


def images(model: nn.Module) -> tuple[Tensor, Tensor]:
    """An image of the smallest size that a network takes, and its output."""
    stated = getattr(model, "pretrained_cfg", None) or {}
    for size in [stated["input_size"][-1]] if stated.get("fixed_input_size") else SIZES:
        x = torch.randn(1, 3, size, size, dtype=torch.float64)
        try:
            with torch.no_grad():
                return x, model(x)
        except (RuntimeError, AssertionError):  # too small for it
            if size == SIZES[-1]:
                raise
    raise AssertionError("no size")


def _difference(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())


def _reasons(left: list[tuple[str, str]]) -> dict[str, int]:
    return dict(Counter(reason for _, reason in left))


def line(name: str, parameters: int, gates: int) -> dict[str, Any]:
    """What came of one architecture; an error is a result too."""
    start = time.process_time()
    result: dict[str, Any] = {"name": name, "parameters": parameters, "gates": gates}
    for verb, check in (("fuse", fused), ("fold", folded)):
        try:
            result[verb] = check(made(name))
        except Exception as error:  # the others are still wanted
            result[verb] = {"error": f"{type(error).__name__}: {error}"[:300]}
        gc.collect()
    seconds = round(time.process_time() - start, 1)
    versions = {"torch": torch.__version__, "timm": timm.__version__, "torchvision": torchvision.__version__}
    return result | {"seconds": seconds} | versions


def main() -> None:
    """Takes the architectures that have no line yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=float, default=150, help="million parameters, each held thrice in float64")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")  # timm's, about its own
    torch.set_num_threads(1)
    done = {json.loads(text)["name"] for text in RESULTS.read_text().splitlines()} if RESULTS.exists() else set()
    todo = sorted(row for row in with_gates() if row[1] not in done and row[0] <= options.largest * 1e6)
    for at, (parameters, name, gates) in enumerate(todo, 1):
        row = line(name, parameters, gates)
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{at} of {len(todo)}: {json.dumps(row)}", flush=True)


if __name__ == "__main__":
    main()
