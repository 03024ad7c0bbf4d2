import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from senet.errors import InputError
from senet.recipes import get_recipe
from senet.study.twins import train_twins
from senet.train.rundir import open_folder
from tests.train.detection.folders import tiny_recipe, write_coco

CHANGES = {"data.size": 16, "data.limit": 48, "data.batch_size": 8, "schedule.epochs": 1, "optim.lr": 0.02}


def arms(*names, **changes):
    return [get_recipe(name).override({**CHANGES, **changes}) for name in names]


def test_summary_has_model_parameters_seconds_and_accuracy_of_each_seed(tmp_path):
    comparison = train_twins(arms("synthetic.resnet8", "synthetic.seresnet8"), tmp_path, seeds=2)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary == json.loads(json.dumps(comparison.to_dict()))
    for arm in summary["arms"]:
        assert arm["seeds"] == [0, 1]
        assert len(arm["accuracies"]) == len(arm["durations"]) == len(arm["runs"]) == 2
        assert arm["parameters"] > 0
    assert summary["differences"][0]["seeds"] == [0, 1]
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["synthetic.resnet8"], "give at least two"),
        (["synthetic.resnet8", "synthetic.resnet8"], "each once"),
        (["synthetic.resnet8", "cifar.seresnet8"], "train on different images"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_training(tmp_path, names, said):
    with pytest.raises(InputError, match=said):
        train_twins(arms(*names), tmp_path, seeds=1)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_another_run_is_refused_before_training(tmp_path):
    recipes = arms("synthetic.resnet8", "synthetic.seresnet8")
    open_folder(tmp_path / "synthetic.seresnet8-seed1", recipes[1].override({"run.seed": 1, "optim.lr": 0.5}))
    with pytest.raises(InputError, match="already holds a run of another recipe"):
        train_twins(recipes, tmp_path, seeds=2, resume=True)
    assert [run.name for run in tmp_path.iterdir()] == ["synthetic.seresnet8-seed1"]


def test_what_draws_the_page_is_looked_for_before_training(tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "jinja2" else real(name, *rest)
    )
    with pytest.raises(InputError, match=r"reports need jinja2; pip install 'senet\[plot\]'"):
        train_twins(arms("synthetic.resnet8", "synthetic.seresnet8"), tmp_path, seeds=1)
    assert not list(tmp_path.iterdir())


def test_over_two_processes(tmp_path):
    sets = [word for name, value in CHANGES.items() for word in ("--set", f"{name}={value}")]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "senet", "twins",
         "synthetic.resnet8", "synthetic.seresnet8", "--seeds", "1", "--out", str(tmp_path / "out"), *sets],
        capture_output=True, text=True, timeout=250,
        env={**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("The report: ") == 1


def test_detectors_are_twins_too(tmp_path):
    root = write_coco(tmp_path / "coco", train=2, val=2)
    changes = {"schedule.epochs": 1, "model.options": {"depths": [1, 1, 1, 1], "planes": [8, 8, 16, 16]}}
    recipes = [
        replace(tiny_recipe(root, **changes, **{"model.name": network}), name=network)
        for network in ("resnet18", "seresnet18")
    ]
    comparison = train_twins(recipes, tmp_path / "out", seeds=1)
    assert [arm.metric.name for arm in comparison.arms] == ["AP", "AP"]
    assert "points of AP" in comparison.differences[0].verdict
    assert (tmp_path / "out" / "report.html").is_file()
