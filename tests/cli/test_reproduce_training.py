"""`senet reproduce --check train`: trained once, compared, drawn."""

import json

import pytest

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
        (["table7", "--check", "train", "--edition", "cvpr"], "trainings go by the TPAMI edition's numbers"),
        (["figure5", "--check", "train"], "figure '5' cannot be drawn from trainings"),
        (["table10", "--check", "train", "--on", "mnist"], "--on is 'mnist'"),
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
