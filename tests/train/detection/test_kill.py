"""A detector's run killed by SIGKILL at any moment and resumed ends with the weights of one that never was."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from senet.options import to_plain
from senet.train.detection.trained import read_detector
from senet.train.loop import train
from senet.train.rundir import read_metrics, write_json
from senet.train.tasks import load_recipe
from tests.train.detection.folders import tiny_recipe, write_coco

MOMENTS = [
    ("before a rename", 1),  # before there is a recipe
    ("after a step", 1),  # in the first epoch, after a checkpoint
    ("before a rename", 5),  # weights are about to take their place
    ("after an epoch", 1),
    ("after a step", 3),  # in the second epoch
]

# Trains once for each moment, each time in a child that kills itself at the n-th event of a kind.
VICTIMS = """
import json, os, pathlib, signal, sys
import torch
torch.set_num_threads(1)
from senet.train.loop import train
from senet.train.tasks import load_recipe
from senet.train.watch import Watch

recipe, folder, moments = sys.argv[1], pathlib.Path(sys.argv[2]), json.loads(sys.argv[3])
left = {}

def count(kind):
    left[kind] = left.get(kind, 0) - 1
    if left[kind] == 0:
        os.kill(os.getpid(), signal.SIGKILL)

rename = pathlib.Path.replace

def replace(self, target):
    count("before a rename")
    return rename(self, target)

class Killer(Watch):
    def step(self, images):
        count("after a step")
    def epoch(self, metrics):
        count("after an epoch")

ends = []
for number, (event, n) in enumerate(moments):
    child = os.fork()
    if child == 0:
        left[event] = n
        pathlib.Path.replace = replace
        train(load_recipe(pathlib.Path(recipe)), folder / str(number), resume=True, watchers=[Killer()])
        os._exit(0)
    ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(ends))
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with the recipe, the run that nobody kills, and those that were killed, by number."""
    folder = tmp_path_factory.mktemp("runs")
    torch.set_num_threads(1)
    recipe = tiny_recipe(write_coco(folder / "coco", train=4, val=2), **{"run.save_every": 1, "run.ema_decay": 0.9})
    write_json(folder / "recipe.json", to_plain(recipe))
    train(recipe, folder / "whole")
    command = [sys.executable, "-c", VICTIMS, str(folder / "recipe.json"), str(folder), json.dumps(MOMENTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == [-signal.SIGKILL] * len(MOMENTS)
    return folder


@pytest.mark.parametrize("number", range(len(MOMENTS)), ids=[f"{event}-{n}" for event, n in MOMENTS])
def test_killed_and_resumed(runs, number):
    out = runs / str(number)
    train(load_recipe(runs / "recipe.json"), out, resume=True)
    for name in ("model", "best"):
        a, b = (read_detector(run, weights=name).model.state_dict() for run in (runs / "whole", out))
        assert a
        assert all(torch.equal(a[key], b[key]) for key in a)
    first, second = (
        [{**m, "seconds": 0, "images_per_second": 0} for m in read_metrics(r)] for r in (runs / "whole", out)
    )
    assert first == second
    assert sorted(os.listdir(out)) == sorted(os.listdir(runs / "whole"))
