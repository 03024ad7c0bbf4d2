"""`senet reproduce --check train`: trained once, compared, drawn."""

import json

import pytest

from senet.cli import reproduce_training
from senet.study.grid import CellsFailedError

SMALL = ["--set", "data.size=16", "--set", "data.batch_size=8", "--set", "schedule.epochs=1", "--set", "optim.lr=0.02"]


def words(*first, photos, out, seeds=2):
    data = ["--on", "folder", "--data", photos, "--set", "data.val_fraction=0.25"]
    return ["reproduce", *first, "--check", "train", *data, "--seeds", seeds, "--out", out, "--jobs", 1, *SMALL]


def test_a_table_is_trained_compared_and_drawn_and_the_second_time_only_shown(senet, photos, tmp_path):
    code, out, err = senet(*words("table16", photos=photos, out=tmp_path))
    assert code == 0, err
    assert "Table 16 (tpami): The squeeze left out" in out
    assert "NoSqueeze minus SE" in out
    assert sum(" top-1 " in line for line in err.splitlines()) == 6
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(line["model"], line["seed"]) for line in lines[:2]] == [("cifar_resnet8", 0), ("cifar_seresnet8", 0)]
    assert {line["dataset"] for line in lines} == {photos.name}
    page = (tmp_path / f"table-16-{photos.name}.html").read_text()
    assert "NoSqueeze" in page
    assert "model.options" not in page[: page.index("recipe")]
    assert (tmp_path / f"table-16-{photos.name}.svg").stat().st_size > 1000

    code, again, err = senet(*words("table16", photos=photos, out=tmp_path))
    assert (code, again) == (0, out)
    assert "6 of 6 runs are done already" in err


def test_a_cell_that_cannot_be_trained_leaves_the_table_of_the_others(senet, photos, tmp_path, monkeypatch):
    run = reproduce_training.run_grid

    def without_one(recipes, *arguments, **options):
        lines = run(recipes, *arguments, **options)
        raise CellsFailedError("1 of 3 cells could not be trained", [line for line in lines if line["seed"] == 0][1:])

    monkeypatch.setattr(reproduce_training, "run_grid", without_one)
    code, out, err = senet(*words("table11", photos=photos, out=tmp_path, seeds=1))
    assert code == 2
    assert "1 of 3 cells could not be trained" in err
    assert "not run" in out
    assert "Max minus Avg" in out
    assert "The page:" in out


def test_curves_of_figure_4(senet, photos, tmp_path):
    code, out, err = senet(*words("figure4", photos=photos, out=tmp_path, seeds=1))
    assert code == 0, err
    names = {path.name for path in tmp_path.glob("*.svg")}
    assert names == {f"figure-4-ResNet-{depth}-{photos.name}.svg" for depth in (8, 14, 20)}
    assert out.count("The plot:") == 3


def test_gates_of_figures_6_and_7(senet, photos, tmp_path):
    code, out, err = senet(*words("figure6", photos=photos, out=tmp_path, seeds=1))
    assert code == 0, err
    assert (tmp_path / "figures-6-and-7").is_dir()
    assert "The page:" in out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--check", "train"], "name what to train"),
        (["table17", "--check", "train"], "no table '17' can be trained"),
        (["table7", "--check", "train"], "Table 7 is of detectors"),
        (["table7", "--check", "train", "--edition", "cvpr"], "there it is Table 10"),
        (["figure5", "--check", "train"], "figure '5' cannot be drawn from trainings"),
        (["table10", "--check", "train", "--on", "mnist"], "--on is 'mnist'"),
        (["table10", "--check", "train", "--set", "model.options.drop_rate=0.1"], "rows say which network"),
        (["table10", "--check", "train", "--set", "run.seed=7"], "--seeds which seeds"),
        (["table10", "--check", "train", "--json"], "--json is for --check complexity and weights"),
        (["table10", "--scale", "small"], "--scale says how to train; give --check train"),
        (["--list", "--seeds", "3"], "--seeds says how to train"),
        (["figure4"], "figure4 is drawn, by --check train"),
        (
            ["table10", "--check", "train", "--scale", "paper", "--on", "cifar10"],
            "--on chooses images for --scale small",
        ),
        (["table10", "--check", "train", "--on", "folder"], "needs data.root"),
        (["table10", "--check", "weights"], "give --data DIR"),
        (["table10", "--check", "weights", "--data", "."], "no pretrained weights are known"),
    ],
)
def test_what_cannot_be_done_is_refused(refused, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused("reproduce", *given)
