"""Free SE on a CPU: fused SE-ResNet-50 beside timm's plain ResNet-50, and what both keep and move.

One thread, and the processor time of this process: neighbours on the machine disturb that least. Networks are taken in
turn; a second plain network is the control. Outputs must agree before anything is timed. The process keeps the memory
it frees, as in `senet train`; else page faults are up to a third of a step, in each network as its turn has it.

    python benchmarks/free.py counts train train-compiled infer-compiled-1 --size 224
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import senet
from senet.analysis.kept import kept
from senet.kernels.dispatch import explain
from senet.measure import device_name, in_turn, ratio, source_commit
from senet.surgery.graph.run import randomise_norms
from senet.train.memory import keep_freed_memory

RESULTS = Path(__file__).parent / "results" / "free.jsonl"
CPU = torch.device("cpu")


def networks(name: str, plain: str) -> dict[str, nn.Module]:
    """A network with SE, the same fused, its plain twin, and that again."""
    torch.manual_seed(0)
    gated, twin = timm.create_model(name), timm.create_model(plain)
    randomise_norms(gated)
    fused = senet.fuse(copy.deepcopy(gated))
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(fused.eval()(x), gated.eval()(x), rtol=1e-3, atol=1e-3)
    return {"plain": twin, "se": gated, "fused": fused, "control": copy.deepcopy(twin)}


def step(net: nn.Module, run: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    """A step of training: forward, loss, backward, SGD with momentum."""
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    target = torch.zeros(len(x), dtype=torch.long)

    def call() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(run(x), target).backward()
        optimizer.step()

    return call


def train(options: argparse.Namespace, *, compiled: bool) -> dict[str, object]:
    """Training steps of SE-ResNet-50 and ResNet-50."""
    nets = networks("seresnet50", "resnet50")
    x = torch.randn(options.batch_size, 3, options.size, options.size)
    calls = {which: step(net, torch.compile(net) if compiled else net, x) for which, net in nets.items()}
    return timed(calls, options) | {"batch_size": options.batch_size}


def infer(options: argparse.Namespace, batch_size: int) -> dict[str, object]:
    """Inference of the folded network, everything compiled and frozen."""
    nets = networks("seresnet50", "resnet50")
    nets["folded"] = senet.fold(nets["se"])
    del nets["fused"]
    x = torch.randn(batch_size, 3, options.size, options.size)

    def call(run: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def infer_once() -> None:
            with torch.no_grad():
                run(x)

        return infer_once

    torch._inductor.config.freezing = True
    calls = {which: call(torch.compile(net.eval())) for which, net in nets.items()}
    return timed(calls, options) | {"batch_size": batch_size}


def timed(calls: Mapping[str, Callable[[], None]], options: argparse.Namespace) -> dict[str, object]:
    """The ratios of all calls to the plain network's."""
    times = in_turn(calls, rounds=options.rounds, warmup=2, clock=time.process_time)
    line: dict[str, object] = {"plain_ms": round(1e3 * statistics.median(times["plain"]), 1), "rounds": options.rounds}
    for which in times:
        if which != "plain":
            found = ratio(times[which], times["plain"])
            line[which] = [round(value, 4) for value in (found.median, found.low, found.high)]
    return line


def counts(options: argparse.Namespace) -> dict[str, object]:
    """Activation bytes kept for backward, of an image."""
    x = torch.randn(options.batch_size, 3, options.size, options.size)

    def bytes_of(net: nn.Module) -> int:
        net.train()
        return kept(lambda: net(x).sum(), net, x).bytes

    resnet, seresnet, efficientnet = (timm.create_model(n) for n in ("resnet50", "seresnet50", "efficientnet_b0"))
    plain, gated, mobile = bytes_of(resnet), bytes_of(seresnet), bytes_of(efficientnet)
    return {
        "batch_size": options.batch_size,
        "kept_seresnet50": round(gated / plain, 4),
        "kept_fused_seresnet50": round(bytes_of(senet.fuse(seresnet)) / plain, 4),
        "kept_fused_efficientnet_b0": round(bytes_of(senet.fuse(efficientnet)) / mobile, 4),
    }


WHAT: dict[str, Callable[[argparse.Namespace], dict[str, object]]] = {
    "counts": counts,
    "train": lambda options: train(options, compiled=False),
    "train-compiled": lambda options: train(options, compiled=True),
    "infer-compiled-1": lambda options: infer(options, 1),
    "infer-compiled-8": lambda options: infer(options, 8),
}


def main() -> None:
    """Measures, prints and appends a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", default=list(WHAT), choices=list(WHAT))
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--memory", choices=["kept", "given back"], default="kept", help="what the process frees")
    options = parser.parse_args()
    if options.memory == "kept":
        keep_freed_memory()
    torch.set_num_threads(1)
    commit = source_commit()
    for what in options.what:
        torch.compiler.reset()
        line = {
            "date": datetime.now(UTC).date().isoformat(),
            "what": what,
            "size": options.size,
            **WHAT[what](options),
            "threads": 1,
            "memory": options.memory,
            "sweeps": explain("cpu"),
            "device": device_name(CPU),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "senet": senet.__version__,
            "commit": commit,
        }
        print(json.dumps(line), flush=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
