"""What recording the gates costs: a forward pass with running statistics beside one without, and the bytes held.

One thread, and the processor time of this process: neighbours on the machine disturb that least. The same network three
times, taken in turn: plain, with ``senet.record(statistics=True)``, and plain again as the control.

    python benchmarks/record.py seresnet18 cifar_seresnet8
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import timm
import torch
from torch import Tensor, nn

import senet
from senet.measure import device_name, in_turn, ratio

RESULTS = Path(__file__).parent / "results" / "record.jsonl"
CPU = torch.device("cpu")
CLASSES = tuple(f"class {k}" for k in range(1000))


class Case(NamedTuple):
    """A network and what it is given."""

    make: Callable[[], nn.Module]
    size: int
    batch_size: int


CASES = {
    "seresnet18": Case(lambda: senet.create_model("seresnet18"), 224, 8),
    "timm seresnet18": Case(lambda: timm.create_model("seresnet18"), 224, 8),
    "cifar_seresnet8": Case(lambda: senet.create_model("cifar_seresnet8"), 32, 8),
    "cifar_seresnet8, 128 images": Case(lambda: senet.create_model("cifar_seresnet8"), 32, 128),
}


def time_and_bytes(case: Case, rounds: int) -> dict[str, object]:
    """The ratios to the plain network, by class and not, and what the statistics hold after 1 and 50 batches."""
    torch.manual_seed(0)
    net = case.make().eval()
    x = torch.randn(case.batch_size, 3, case.size, case.size)
    labels = torch.arange(case.batch_size) % 10
    nets = {name: copy.deepcopy(net) for name in ("plain", "control", "statistics", "by_class")}
    with (
        torch.inference_mode(),
        senet.record(nets["statistics"], statistics=True),
        senet.record(nets["by_class"], statistics=True, classes=CLASSES) as recording,
    ):

        def by_class() -> Tensor:
            recording.labels = labels
            return nets["by_class"](x)

        calls: dict[str, Callable[[], object]] = {
            "plain": lambda: nets["plain"](x),
            "statistics": lambda: nets["statistics"](x),
            "by_class": by_class,
            "control": lambda: nets["control"](x),
        }
        times = in_turn(calls, rounds=rounds, clock=time.process_time)
        held = bytes_held(by_class)
    line: dict[str, object] = {"plain_ms": round(1e3 * statistics.median(times["plain"]), 2), "rounds": rounds}
    for name in ("statistics", "by_class", "control"):
        found = ratio(times[name], times["plain"])
        line[name] = [round(value, 4) for value in (found.median, found.low, found.high)]
    return line | {"size": case.size, "batch_size": case.batch_size, "classes": len(CLASSES), "bytes_held": held}


def bytes_held(call: Callable[[], object]) -> dict[str, int]:
    """The bytes of all tensors alive after one more call, and after 50 of them."""
    held = {}
    for batches in (1, 50):
        for _ in range(batches):
            call()
        gc.collect()
        alive = [thing.untyped_storage() for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
        held[f"after {batches}"] = sum({storage.data_ptr(): storage.nbytes() for storage in alive}.values())
    return held


def main() -> None:
    """Measures, prints and appends a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("case", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    commit = ["git", "rev-parse", "--short", "HEAD"]
    for case in options.case:
        line = {
            "date": datetime.now(UTC).date().isoformat(),
            "what": case,
            **time_and_bytes(CASES[case], options.rounds),
            "threads": 1,
            "device": device_name(CPU),
            "torch": torch.__version__,
            "timm": timm.__version__,
            "senet": senet.__version__,
            "commit": subprocess.run(commit, capture_output=True, text=True, check=True).stdout.strip(),
        }
        print(json.dumps(line), flush=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
