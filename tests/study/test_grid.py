"""Many runs: each once, whatever is killed, and the same numbers."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from filelock import FileLock

from senet.errors import InputError
from senet.options import to_plain
from senet.recipes import get_recipe
from senet.study import grid
from senet.study.grid import CellsFailedError, GridWatch, run_grid
from senet.train.loop import train
from senet.train.rundir import write_json

CHANGES = {"data.size": 16, "data.limit": 48, "data.batch_size": 8, "schedule.epochs": 2, "optim.lr": 0.02}


def cells(seeds=2, **changes):
    names = ("synthetic.resnet8", "synthetic.seresnet8")
    return [
        get_recipe(name).override({**CHANGES, **changes, "run.seed": seed}) for seed in range(seeds) for name in names
    ]


class Told(GridWatch):
    def __init__(self):
        self.words = []

    def start(self, cells, done):
        self.words.append(("start", len(cells), done))

    def epoch(self, name, metrics):
        self.words.append(("epoch", name))

    def finished(self, name, line):
        self.words.append(("finished", name))

    def failed(self, name, why):
        self.words.append(("failed", name))

    def close(self):
        self.words.append(("close",))


def test_every_cell_is_trained_once_and_as_alone(tmp_path):
    told = Told()
    recipes = cells()
    lines = run_grid([*recipes, recipes[0]], tmp_path / "grid", jobs=2, watch=told)
    assert lines[-1] == lines[0]
    assert [(line["model"], line["seed"]) for line in lines[:4]] == [
        (recipe.model.name, recipe.run.seed) for recipe in recipes
    ]
    assert told.words[0] == ("start", 4, 0)
    assert told.words[-1] == ("close",)
    finished = [words[1] for words in told.words if words[0] == "finished"]
    assert sorted(finished) == sorted(line["run"] for line in lines[:4])
    assert sum(words[0] == "epoch" for words in told.words) == 8
    alone = train(recipes[3], tmp_path / "alone")
    assert lines[3]["val_loss"] == alone["val_loss"]
    assert lines[3]["threads"] == 1
    assert [epoch["epoch"] for epoch in lines[3]["history"]] == [1, 2]
    assert lines[3]["plain"]["data"]["root"] is None
    assert str(tmp_path) not in json.dumps(lines)

    again = Told()
    assert run_grid(recipes, tmp_path / "grid", watch=again) == lines[:4]
    assert again.words == [("start", 0, 4), ("close",)]


VICTIM = """
import sys, os, signal, pathlib, json
from senet.train.recipe import Recipe
from senet.study.grid import CellsFailedError, GridWatch, run_grid

class Killer(GridWatch):
    def epoch(self, name, metrics):
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    recipes = [Recipe.load(path) for path in sorted(pathlib.Path(sys.argv[1]).glob("*.json"))]
    run_grid(recipes, pathlib.Path(sys.argv[2]), jobs=1, watch=Killer())
"""


def test_killed_and_started_again_it_ends_with_the_same_numbers(tmp_path):
    recipes = cells(seeds=1, **{"schedule.epochs": 15})  # more than pass between two looks
    (tmp_path / "recipes").mkdir()
    for index, recipe in enumerate(recipes):
        write_json(tmp_path / "recipes" / f"{index}.json", to_plain(recipe))
    (tmp_path / "victim.py").write_text(VICTIM)
    command = [sys.executable, tmp_path / "victim.py", tmp_path / "recipes", tmp_path / "grid"]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    (run,) = (tmp_path / "grid" / "cells").iterdir()
    assert (run / "checkpoint.safetensors").exists()
    wait_for_quiet(run)  # the worker sees at its next step that nobody waits for it
    assert not (run / "summary.json").exists()
    lines = run_grid(recipes, tmp_path / "grid")
    for index, recipe in enumerate(recipes):
        assert lines[index]["val_loss"] == train(recipe, tmp_path / str(index))["val_loss"]


def wait_for_quiet(run):
    until = time.monotonic() + 30
    before = None
    while (now := sorted((f.name, os.stat(f).st_mtime_ns) for f in run.iterdir())) != before:
        assert time.monotonic() < until
        before = now
        time.sleep(1)


def test_a_cell_that_cannot_be_trained_stops_no_other(tmp_path):
    good, bad = cells(seeds=1)
    bad = bad.override({"optim.lr": 1e30})
    told = Told()
    with pytest.raises(CellsFailedError, match=r"1 of 2 cells could not be trained.*the loss is") as failed:
        run_grid([bad, good], tmp_path, watch=told)
    assert [line["model"] for line in failed.value.lines] == [good.model.name]
    assert [words[0] for words in told.words if words[0] in ("failed", "finished")] == ["failed", "finished"]
    (line,) = (tmp_path / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["model"] == good.model.name


def test_two_grids_in_one_folder_are_refused(tmp_path):
    with FileLock(tmp_path / ".lock"), pytest.raises(InputError, match="another process trains in"):
        run_grid(cells(), tmp_path)


def test_images_that_are_not_there_are_found_missing_before_anything_is_trained(tmp_path):
    recipe = get_recipe("cifar.resnet8").override({"data.root": str(tmp_path / "nowhere")})
    with pytest.raises(InputError, match="nowhere does not exist"):
        run_grid([recipe], tmp_path / "grid")


def test_other_images_are_other_cells(tmp_path, monkeypatch):
    (recipe, _) = cells(seeds=1)
    names = set()
    for images in ("these", "those"):
        monkeypatch.setattr(grid, "_images", lambda data, images=images: {"train": images, "val": images})
        run_grid([recipe], tmp_path, watch=(told := Told()))
        names |= {words[1] for words in told.words if words[0] == "finished"}
    assert len(names) == 2
    assert all(name.startswith("synthetic-resnet8-seed0-") for name in names)


MORTAL = """
import multiprocessing, os, pathlib, signal, sys, time
import torch
from senet.train import classification
from senet.train.recipe import Recipe
from senet.study.grid import GridWatch, run_grid

what, recipes, out = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
evaluate, initial = classification.evaluate, classification.initial_model

def slowly(*arguments):
    (out / "evaluating").touch()
    time.sleep(3600)

def without_memory(spec, *arguments, **options):
    if spec.name == "cifar_resnet8":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
    return initial(spec, *arguments, **options)

if what == "worker is slow":
    classification.evaluate = slowly
if what == "memory is full":
    classification.initial_model = without_memory

class Killer(GridWatch):
    def epoch(self, name, metrics):
        if what == "worker is killed":
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)

if __name__ == "__main__":
    run_grid([Recipe.load(path) for path in sorted(recipes.glob("*.json"))], out, watch=Killer())
"""


@pytest.fixture
def mortal(tmp_path):
    """Starts a grid of two cells to which something happens; gives the process and its folder."""
    for index, recipe in enumerate(cells(seeds=1, **{"schedule.epochs": 15})):
        write_json(tmp_path / f"{index}.json", to_plain(recipe))
    (tmp_path / "mortal.py").write_text(MORTAL)

    def start(what):
        command = [sys.executable, tmp_path / "mortal.py", what, tmp_path, tmp_path / "grid"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True), tmp_path / "grid"

    return start


def test_a_worker_that_is_killed_is_told_of(mortal):
    process, _ = mortal("worker is killed")
    _, err = process.communicate()
    assert process.returncode == 1
    assert "InputError: a process was killed at its work" in err


def test_a_cell_without_memory_stops_no_other(mortal):
    process, out = mortal("memory is full")
    _, err = process.communicate()
    assert process.returncode == 1
    assert "1 of 2 cells could not be trained" in err
    assert "the same again, with fewer --jobs" in err
    assert len((out / "results.jsonl").read_text().splitlines()) == 1


def test_a_worker_ends_with_its_parent_whatever_it_is_at(mortal):
    process, out = mortal("worker is slow")
    while not (out / "evaluating").exists():
        assert process.poll() is None
        time.sleep(0.2)
    process.kill()
    process.communicate()  # ends when the worker, which has its output too, is gone
