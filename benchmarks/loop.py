"""What the training loop costs over a bare PyTorch loop.

Three networks are trained alike on the same batches, step by step in turn: after each step of ours, told by a watcher,
one step each of two bare loops, in alternating order. The second bare loop is the control: its ratio to the first is 1
but for the machine's noise. The bare loops get their batches ready made, so that ours pays for loading, augmentation,
measuring and progress as well. On a CPU the weights must be equal at the end, or nothing is printed but an error.

A ratio is given with its 95 % interval (bootstrap of the median); where that holds the bound of 3 %, the machine was
too noisy to tell, and the result says so.

    python benchmarks/loop.py --steps 200 --model cifar_seresnet20
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.nn.functional as F

import senet
from senet.cli.progress import ConsoleWatch
from senet.measure import device_name, ratio
from senet.train.data import load_data, make_loader
from senet.train.loop import train
from senet.train.optim import make_optimizer
from senet.train.recipe import Data, Model, Optim, Recipe, Schedule
from senet.train.start import initial_model
from senet.train.trained import read_trained

BOUND = 0.03  # what the loop may cost
RESULTS = Path(__file__).parent / "results" / "loop.jsonl"


class BareLoop:
    """A loop as a tutorial writes it, one step at a time."""

    def __init__(self, recipe: Recipe, batches: list[tuple[torch.Tensor, torch.Tensor]], classes: int) -> None:
        self.device = batches[0][0].device
        model = initial_model(recipe.model, recipe.data.channels, classes, seed=recipe.run.seed)
        self.model = model.to(self.device).train()
        self.optimizer = make_optimizer(self.model, recipe.optim)
        self.batches = iter(batches)

    def step(self) -> None:
        """Forward, backward, update."""
        images, labels = next(self.batches)
        loss = F.cross_entropy(self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


class InTurn(ConsoleWatch):
    """After each step of our loop, takes its time and then a step of each bare one."""

    def __init__(self, bare: list[BareLoop]) -> None:
        super().__init__()
        self.bare = bare
        self.ours: list[float] = []
        self.theirs: list[list[float]] = [[] for _ in bare]

    def start(self, title: str, *, epochs: int, steps: int, done: int) -> None:
        super().start(title, epochs=epochs, steps=steps, done=done)
        self.since = time.perf_counter()

    def step(self, images: int) -> None:
        super().step(images)
        self._wait()
        self.ours.append(time.perf_counter() - self.since)
        order = range(len(self.bare))
        for which in order if len(self.ours) % 2 else reversed(order):
            since = time.perf_counter()
            self.bare[which].step()
            self._wait()
            self.theirs[which].append(time.perf_counter() - since)
        self.since = time.perf_counter()

    def _wait(self) -> None:
        if self.bare[0].device.type == "cuda":
            torch.cuda.synchronize()


def main() -> None:
    """Measures, prints and appends a line to the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--warmup", type=int, default=5, help="steps not counted")
    parser.add_argument("--model", default="cifar_seresnet20")
    parser.add_argument("--batch-size", type=int, default=128)
    options = parser.parse_args()

    data = Data("synthetic", mean=(0.5,) * 3, std=(0.25,) * 3, batch_size=options.batch_size)
    train_set, _ = load_data(data)
    epochs = -(-options.steps // (len(train_set) // options.batch_size))
    recipe = Recipe("loop", Model(options.model), data, Optim(lr=0.01), Schedule("constant", epochs=epochs))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loader = make_loader(train_set, data, train=True, seed=recipe.run.seed, device=device)
    batches = [batch for epoch in range(epochs) for batch in loader.batches(epoch)]
    watch = InTurn([BareLoop(recipe, batches, len(train_set.classes)) for _ in range(2)])
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, Path(folder), watchers=[watch])
        ours = read_trained(Path(folder)).model.state_dict()
    theirs = watch.bare[0].model.state_dict()
    different = [name for name in theirs if not torch.equal(ours[name].cpu(), theirs[name].cpu())]
    if different and device.type == "cpu":
        raise SystemExit(f"the two loops trained different weights (first: {different[0]}); nothing was measured")

    mine, bare, control = (times[options.warmup :] for times in (watch.ours, *watch.theirs))
    either = [(a + b) / 2 for a, b in zip(bare, control, strict=True)]
    found = ratio(mine, either)
    noise = ratio(control, bare)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "model": options.model,
        "batch_size": options.batch_size,
        "steps": len(mine),
        "ours_ms": round(1e3 * statistics.median(mine), 3),
        "bare_ms": round(1e3 * statistics.median(either), 3),
        "ratio": round(found.median, 4),
        "ratio_95": [round(found.low, 4), round(found.high, 4)],
        "control_95": [round(noise.low, 4), round(noise.high, 4)],
        "verdict": found.verdict(BOUND),
        "device": device_name(device),
        "torch": torch.__version__,
        "senet": senet.__version__,
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip(),
    }
    with RESULTS.open("a") as file:
        file.write(json.dumps(result) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
