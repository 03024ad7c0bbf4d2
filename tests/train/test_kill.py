"""A run killed by SIGKILL at any moment and resumed ends with the same weights as one that never was."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from senet.options import to_plain
from senet.train.loop import train
from senet.train.recipe import Recipe
from senet.train.rundir import read_metrics, write_json
from senet.train.trained import read_trained

# Trains as the command line does, and kills its own process at the n-th event of a kind: no moment is too short to hit.
VICTIM = """
import os, pathlib, signal, sys
import torch
torch.set_num_threads(1)
from senet.train.loop import train
from senet.train.recipe import Recipe
from senet.train.watch import Watch

recipe, out, event, n = sys.argv[1:]
left = int(n)

def count(kind):
    global left
    left -= kind == event
    if kind == event and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

rename, sync = pathlib.Path.replace, os.fsync

def replace(self, target):
    count("before a rename")
    result = rename(self, target)
    count("after a rename")
    return result

def fsync(fd):
    count("before a sync")
    return sync(fd)

pathlib.Path.replace, os.fsync = replace, fsync

class Killer(Watch):
    def step(self, images):
        count("after a step")
    def epoch(self, metrics):
        count("after an epoch")

train(Recipe.load(pathlib.Path(recipe)), pathlib.Path(out), resume=True, watchers=[Killer()])
"""

MOMENTS = [
    ("before a rename", 1),  # before there is a recipe
    ("after a rename", 2),  # the recipe and an empty list of metrics are there
    ("after a step", 3),
    ("before a rename", 4),  # the first weights are about to be renamed
    ("before a sync", 5),
    ("after a rename", 6),
    ("after an epoch", 1),
    ("after a step", 11),
    ("before a sync", 12),
    ("before a rename", 12),
    ("after an epoch", 3),  # before the summary
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The recipe, and the run that nobody kills."""
    from senet.recipes import get_recipe

    recipe = get_recipe("synthetic.seresnet8").override(
        {
            "data.size": 16, "data.limit": 48, "data.batch_size": 8, "optim.lr": 0.02, "schedule.epochs": 3,
            "run.save_every": 2, "run.ema_decay": 0.9,
        }
    )  # fmt: skip
    out = tmp_path_factory.mktemp("whole")
    torch.set_num_threads(1)
    train(recipe, out / "run")
    write_json(out / "recipe.json", to_plain(recipe))
    return out


@pytest.mark.parametrize(("event", "n"), MOMENTS)
def test_killed_and_resumed(whole, tmp_path, event, n):
    recipe, out = whole / "recipe.json", tmp_path / "run"
    command = [sys.executable, "-c", VICTIM, str(recipe), str(out), event, str(n)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    train(Recipe.load(recipe), out, resume=True)
    for name in ("model", "best"):
        a, b = (read_trained(run, weights=name).model.state_dict() for run in (whole / "run", out))
        assert all(torch.equal(a[key], b[key]) for key in a)
    losses = [[m["train_loss"] for m in read_metrics(run)] for run in (whole / "run", out)]
    assert losses[0] == losses[1]
    assert sorted(os.listdir(out)) == sorted(os.listdir(whole / "run"))
