import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from senet.errors import InputError
from senet.options import to_plain
from senet.train.detection import require
from senet.train.detection.task import Detection
from senet.train.detection.trained import boxes_of, evaluate_detector, read_detector
from senet.train.loop import train
from senet.train.rundir import read_summary, write_json
from senet.train.watch import Watch
from tests.train.detection.folders import tiny_recipe, write_coco


class Losses(nn.Module):
    def forward(self, images, targets):
        return {"loss_a": torch.tensor(1.0), "loss_b": torch.tensor(0.25)}


def test_the_loss_is_the_sum_of_the_losses_and_each_is_told_by_images():
    loss, numbers = Detection().loss(Losses(), [1, 2], [{}, {}], tiny_recipe("nowhere"))
    assert float(loss) == 1.25
    assert {name: float(number) for name, number in numbers.items()} == {"train_loss_a": 2.0, "train_loss_b": 0.5}


def test_masks_need_masks(coco, voc):
    recipe = tiny_recipe(voc, **{"detector.masks": True})
    with pytest.raises(InputError, match=r"detector\.masks is true, but the train images have no masks"):
        Detection().load(recipe, progress=lambda *_: None)


def test_masks_of_some_objects_are_too_few(tmp_path):
    root = write_coco(tmp_path / "coco", change=lambda content: content["annotations"][0].pop("segmentation"))
    recipe = tiny_recipe(root, **{"detector.masks": True})
    with pytest.raises(InputError, match="of the 9 objects of the train images 1 have no segmentation"):
        train(recipe, tmp_path / "run")


def test_masks_are_trained_and_scored(tmp_path):
    root = write_coco(tmp_path / "coco", train=2, val=2)
    recipe = tiny_recipe(root, **{"detector.masks": True, "schedule.epochs": 1})
    summary = train(recipe, tmp_path / "run")
    assert {"mask_ap", "mask_ap50", "ap"} <= summary.keys()


def test_what_was_left_out_is_told_once(tmp_path):
    root = write_coco(
        tmp_path / "coco", train=2, val=2, change=lambda c: c["annotations"][1].update(bbox=[900, 1, 10, 10])
    )
    told = []

    class Listener(Watch):
        def note(self, text):
            told.append(text)

    train(tiny_recipe(root, **{"schedule.epochs": 1}), tmp_path / "run", watchers=[Listener()])
    (note,) = told
    assert note.startswith("train: 1 box outside of the image left out (first: ")


def test_the_package_that_counts_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(require.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'senet\[detection\]'"):
        require.require_evaluator()


def test_two_processes_share_the_work(tmp_path):
    """With an odd number of images to validate with, of which one process sees more than the other."""
    root = write_coco(tmp_path / "coco", train=4, val=3)
    recipe = tiny_recipe(root, **{"schedule.epochs": 1, "detector.score_threshold": 0.0})
    write_json(tmp_path / "recipe.json", to_plain(recipe))
    program = tmp_path / "program.py"
    program.write_text(
        "import sys; from pathlib import Path; import torch; torch.set_num_threads(1)\n"
        "from senet.train.loop import train; from senet.train.tasks import load_recipe\n"
        "train(load_recipe(Path(sys.argv[1])), Path(sys.argv[2]))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(program)]
    done = subprocess.run(
        [*command, str(tmp_path / "recipe.json"), str(tmp_path / "run")],
        env={**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    summary = read_summary(tmp_path / "run")
    assert summary["val_images"] == 3
    trained = read_detector(tmp_path / "run")
    alone = evaluate_detector(trained, boxes_of(trained))
    assert {name: summary[name] for name in alone.numbers} == pytest.approx(alone.numbers)
