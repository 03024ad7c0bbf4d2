"""Batches of small images per second: ours beside torchvision's transforms in a DataLoader, in turn.

The images lie in memory on both sides, 10,000 of 32x32 pixels, and both change them alike: pad, crop, flip, normalise;
then with Cutout as well. The DataLoader goes without workers and with two, and what is faster counts. The first time is
that of the clock, and on a machine with neighbours holds them too; the second is the processor's, which sees one
process only and so leaves the workers out. Ours runs on one thread.

    python benchmarks/data.py --rounds 15
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import torch
import torchvision
from torchvision_way import MEAN, STD, Pictures
from torchvision_way import make_loader as torchvision_loader

import senet
from senet.measure import device_name, in_turn, ratio, source_commit
from senet.train.data import ImageSet, make_loader
from senet.train.recipe import Data

RESULTS = Path(__file__).parent / "results" / "data.jsonl"
CPU = torch.device("cpu")
BATCH = 128
CASES = {"crop and flip": 0, "crop, flip and Cutout": 16}  # the hole's side in pixels
WORKERS = (0, 2)


def image_set(count: int) -> ImageSet:
    """Noise: what is in an image changes no time."""
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    return ImageSet("train", tuple("abcdefghij"), torch.arange(count) % 10, images)


def pictures(images: ImageSet, *, cutout: int = 0) -> Pictures:
    """The same images as torchvision's data sets hold them."""
    assert images.images is not None
    return Pictures(images.images.permute(0, 2, 3, 1).contiguous().numpy(), images.labels.tolist(), cutout=cutout)


def ways(images: ImageSet, cutout: int) -> dict[str, Callable[[], None]]:
    """An epoch of batches, by who makes them."""
    spec = Data("synthetic", mean=MEAN, std=STD, batch_size=BATCH, cutout=cutout)
    loader = make_loader(images, spec, train=True, seed=0, device=CPU)
    calls = {"ours": lambda: exhaust(loader.batches(0))}
    for workers in WORKERS:
        other = torchvision_loader(pictures(images, cutout=cutout), BATCH, workers)
        calls[f"{workers} workers"] = lambda other=other: exhaust(other)
    return calls


def exhaust(batches: Iterable[object]) -> None:
    """Takes one batch after the other."""
    for _ in batches:
        pass


def measure(cutout: int, *, count: int, rounds: int) -> dict[str, object]:
    """Images per second, and how many times as many ours hands out."""
    images = image_set(count)
    calls = ways(images, cutout)
    clock = in_turn(calls, rounds=rounds, warmup=1)
    alone = in_turn(
        {name: calls[name] for name in ("ours", "0 workers")}, rounds=rounds, warmup=1, clock=time.process_time
    )
    handed_out = count // BATCH * BATCH
    best = min(set(calls) - {"ours"}, key=lambda name: statistics.median(clock[name]))
    return {
        "images_per_second": {name: round(handed_out / statistics.median(times)) for name, times in clock.items()},
        "best": best,
        "times_as_fast": rounded(clock[best], clock["ours"]),
        "images_per_processor_second": {
            name: round(handed_out / statistics.median(times)) for name, times in alone.items()
        },
        "times_as_fast_by_processor": rounded(alone["0 workers"], alone["ours"]),
    }


def rounded(theirs: list[float], ours: list[float]) -> list[float]:
    """The median ratio with the ends of its interval."""
    found = ratio(theirs, ours)
    return [round(value, 3) for value in (found.median, found.low, found.high)]


def main() -> None:
    """Measures, prints and appends a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    commit = source_commit()
    for what, cutout in CASES.items():
        line = {
            "date": datetime.now(UTC).date().isoformat(),
            "what": what,
            **measure(cutout, count=options.images, rounds=options.rounds),
            "batch_size": BATCH,
            "rounds": options.rounds,
            "threads": 1,
            "device": device_name(CPU),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "senet": senet.__version__,
            "commit": commit,
        }
        print(json.dumps(line), flush=True)
        with options.results.open("a") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
