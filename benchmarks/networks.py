"""Our networks beside timm's own: forward and backward with the same weights, timed in turn.

A second network of theirs is the control: its ratio to the first is 1 but for the machine's noise. Before anything is
timed, gradients must agree.

    python benchmarks/networks.py --rounds 30 --batch-size 8
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

import senet
from senet.measure import device_name, in_turn, ratio

BOUND = 0.02
RESULTS = Path(__file__).parent / "results" / "networks.jsonl"
# One of each family that timm has.
NETWORKS = (
    "resnet18",
    "resnet50",
    "seresnet50",
    "seresnext50_32x4d",
    "vgg11_bn",
    "inception_v3",
    "mobilenetv1_100",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "efficientnet_b0",
    "regnety_008",
)


def step(net: nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward and backward, in training mode."""
    net.train()

    def run() -> None:
        net.zero_grad(set_to_none=True)
        net(x).square().mean().backward()

    return run


def measured(name: str, *, size: int, batch_size: int, rounds: int, device: torch.device) -> dict[str, object]:
    """A line of results."""
    torch.manual_seed(0)
    theirs = timm.create_model(name, num_classes=100).to(device)
    ours = senet.create_model(name, num_classes=100).to(device)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(batch_size, 3, size, size, device=device)
    nets = {"ours": ours, "theirs": theirs, "control": copy.deepcopy(theirs)}
    calls = {which: step(net, x) for which, net in nets.items()}
    for call in calls.values():
        call()
    mine, other = (torch.cat([p.grad.flatten() for p in nets[which].parameters()]) for which in ("ours", "theirs"))
    if not (mine - other).norm() <= 1e-3 * other.norm():
        raise SystemExit(f"{name}: gradients differ; nothing was measured")
    times = in_turn(calls, rounds=rounds, device=device)
    found, noise = ratio(times["ours"], times["theirs"]), ratio(times["control"], times["theirs"])
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "model": name,
        "size": size,
        "batch_size": batch_size,
        "rounds": rounds,
        "theirs_ms": round(1e3 * statistics.median(times["theirs"]), 2),
        "ratio": round(found.median, 4),
        "ratio_95": [round(found.low, 4), round(found.high, 4)],
        "control_95": [round(noise.low, 4), round(noise.high, 4)],
        "verdict": found.verdict(BOUND),
        "device": device_name(device),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "senet": senet.__version__,
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip(),
    }


def main() -> None:
    """Measures, prints and appends a line a network to the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NETWORKS, help="timm's names")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name in options.names:
        line = measured(name, size=options.size, batch_size=options.batch_size, rounds=options.rounds, device=device)
        print(
            f"{name:24} {line['ratio']} {line['ratio_95']}, control {line['control_95']}: {line['verdict']}", flush=True
        )
        with RESULTS.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
