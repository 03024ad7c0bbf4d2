"""Training a small network on a CPU: our loop with our data, beside PyTorch Lightning's with torchvision's, in turn.

Both train cifar_seresnet8 with the same optimizer on the same images, padded, cropped, flipped and normalised, in the
same memory format, on one thread. Lightning's Trainer is `barebones=True`, the mode in which its documentation turns
off all that may cost speed, and gets its batches from a DataLoader, once without workers and once with one: what is
faster counts. Ours is `senet.train.loop.train` as anybody calls it. Each loop has a process of its own, so that none
finds the memory as another has left it. A round is a short training by each; timed are all steps but the first few,
from the end of one step to the end of the last, loading included, and no start, evaluation or file. The second time is
the processor's, of the loop's process only, beside Lightning without workers.

Lightning is no dependency of this project. An environment for this script:

    pip install "senet[train]" pytorch-lightning==2.6.6
    python benchmarks/public_loop.py

(The distribution `pytorch-lightning`, not `lightning`, of which 2.6.2 and 2.6.3 were malicious.)
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from data import image_set, pictures, rounded
from torch import Tensor
from torchvision_way import MEAN, STD, make_loader

import senet
from senet.measure import device_name, source_commit
from senet.train.loop import train
from senet.train.optim import make_optimizer
from senet.train.recipe import Data, Model, Optim, Recipe, Run, Schedule
from senet.train.start import initial_model
from senet.train.watch import Watch

try:
    import pytorch_lightning as lightning
except ModuleNotFoundError:
    raise SystemExit("this benchmark needs PyTorch Lightning: pip install pytorch-lightning==2.6.6") from None

RESULTS = Path(__file__).parent / "results" / "public_loop.jsonl"
CPU = torch.device("cpu")
MODEL = "cifar_seresnet8"
SKIPPED = 2  # steps before the first time is taken
LIGHTNING = {"Lightning": 0, "Lightning, 1 worker": 1}

Seconds = tuple[float, float]  # by the clock, by the processor


class Marks:
    """When the steps of a training ended."""

    def __init__(self) -> None:
        self.at: list[Seconds] = []

    def mark(self) -> None:
        """A step has ended."""
        self.at.append((time.perf_counter(), time.process_time()))

    def seconds(self) -> Seconds:
        """From the end of the last step skipped to the end of the last."""
        (clock, processor), (last_clock, last_processor) = self.at[SKIPPED - 1], self.at[-1]
        return last_clock - clock, last_processor - processor


class Marking(Watch, Marks):
    """Marks the steps of our loop."""

    def step(self, *_: Any) -> None:
        self.mark()


class Callback(lightning.Callback, Marks):
    """Marks the steps of Lightning's loop."""

    def on_train_batch_end(self, *_: Any) -> None:
        self.mark()


class Module(lightning.LightningModule):
    """The network as Lightning wants it, with our recipe's start and optimizer."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        model = initial_model(recipe.model, 3, 10, seed=recipe.run.seed)
        self.model = model.to(memory_format=memory_format(recipe))

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """The loss of a batch."""
        images, labels = batch
        return F.cross_entropy(self.model(images.contiguous(memory_format=memory_format(self.recipe))), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The recipe's."""
        return make_optimizer(self.model, self.recipe.optim)


def memory_format(recipe: Recipe) -> torch.memory_format:
    """How the recipe's images lie."""
    return torch.channels_last if recipe.run.channels_last else torch.contiguous_format


def ours(recipe: Recipe, steps: int) -> Seconds:
    """A short training by our loop."""
    watch = Marking()
    images, few = image_set(steps * recipe.data.batch_size), image_set(10)
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, Path(folder), watchers=[watch], images=(images, few))
    return watch.seconds()


def lightnings(recipe: Recipe, steps: int, workers: int) -> Seconds:
    """The same training by Lightning's."""
    loader = make_loader(pictures(image_set(steps * recipe.data.batch_size)), recipe.data.batch_size, workers)
    callback = Callback()
    lightning.Trainer(accelerator="cpu", max_epochs=1, barebones=True, callbacks=[callback]).fit(Module(recipe), loader)
    return callback.seconds()


def quiet() -> None:
    """One thread and no advice, in each process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)  # says at every training that it has begun
    warnings.filterwarnings("ignore", message=".*does not have many workers")  # more were tried
    warnings.filterwarnings("ignore", category=FutureWarning)


def ways(recipe: Recipe, steps: int, stack: ExitStack) -> dict[str, Callable[[], Seconds]]:
    """A short training by each loop, which gives its times; each in a process of its own, which lives on."""

    def alone(training: Callable[..., Seconds], *more: int) -> Callable[[], Seconds]:
        context = multiprocessing.get_context("spawn")
        process = stack.enter_context(ProcessPoolExecutor(1, mp_context=context, initializer=quiet))
        return lambda: process.submit(training, recipe, steps, *more).result()

    return {"ours": alone(ours), **{name: alone(lightnings, workers) for name, workers in LIGHTNING.items()}}


def measure(recipe: Recipe, *, steps: int, rounds: int) -> dict[str, object]:
    """Images per second by each loop, and how many times as long ours takes as the better of the others."""
    times: dict[str, list[Seconds]] = {}
    with ExitStack() as stack:
        calls = ways(recipe, steps, stack)
        for index in range(rounds + 1):
            for name in calls if index % 2 else reversed(list(calls)):
                found = calls[name]()
                if index:  # the first warms up
                    times.setdefault(name, []).append(found)
    clock = {name: [seconds[0] for seconds in found] for name, found in times.items()}
    processor = {name: [seconds[1] for seconds in found] for name, found in times.items()}
    trained = (steps - SKIPPED) * recipe.data.batch_size
    best = min(LIGHTNING, key=lambda name: statistics.median(clock[name]))
    return {
        "images_per_second": {name: round(trained / statistics.median(found)) for name, found in clock.items()},
        "best": best,
        "ratio": rounded(clock["ours"], clock[best]),
        "images_per_processor_second": {
            name: round(trained / statistics.median(processor[name])) for name in ("ours", "Lightning")
        },
        "ratio_by_processor": rounded(processor["ours"], processor["Lightning"]),
    }


def main() -> None:
    """Measures, prints and appends a line for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-sizes", type=int, nargs="*", default=[64, 128])
    parser.add_argument("--images", type=int, default=2560, help="in a training")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    commit = source_commit()
    for batch_size in options.batch_sizes:
        data = Data("synthetic", mean=MEAN, std=STD, batch_size=batch_size)
        optim = Optim(lr=0.05, nesterov=True, weight_decay=5e-4)
        recipe = Recipe("loop", Model(MODEL), data, optim, Schedule("constant", epochs=1), run=Run(channels_last=True))
        line = {
            "date": datetime.now(UTC).date().isoformat(),
            "model": MODEL,
            "batch_size": batch_size,
            **measure(recipe, steps=options.images // batch_size, rounds=options.rounds),
            "images": options.images,
            "rounds": options.rounds,
            "threads": 1,
            "channels_last": recipe.run.channels_last,
            "device": device_name(CPU),
            "torch": torch.__version__,
            "pytorch_lightning": lightning.__version__,
            "senet": senet.__version__,
            "commit": commit,
        }
        print(json.dumps(line), flush=True)
        with options.results.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
