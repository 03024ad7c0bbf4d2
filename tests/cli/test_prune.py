import json

import pytest


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Times are taken once."""
    for name in ("prune", "costs"):
        monkeypatch.setattr(f"senet.analysis.pruning.{name}.ROUNDS", 1)


def test_prune_then_eval_and_predict(senet, trained, photos, tmp_path):
    out = tmp_path / "pruned.safetensors"
    code, printed, err = senet("prune", trained, "--max-drop", 100, "--out", out)
    assert code == 0, err
    assert "3 of 3 gates are constants, 791 (100.0 %) of the gates' 791 parameters are gone" in printed
    assert "judged by the 3 others: top1" in printed  # of 6 held out, 3 a class
    assert f"The network: {out}" in printed
    code, printed, _ = senet("eval", out, "--json")
    assert code == 0
    assert sum(map(sum, json.loads(printed)["confusion"])) == 6
    code, printed, _ = senet("predict", out, photos / "red" / "00.png")
    assert code == 0
    assert "red" in printed


def test_json(senet, trained, photos, tmp_path):
    words = ["--data", photos, "--sites", "layer3.*", "--limit", 4, "--json", "--out", tmp_path / "pruned.safetensors"]
    code, printed, err = senet("prune", trained, *words)
    assert code == 0, err
    told = json.loads(printed)
    assert [step["site"] for step in told["report"]["steps"]] == ["layer3.0.se"]
    assert told["report"]["images"] == told["judged"]["images"] == 2
    assert told["judged"].keys() == {"images", "metric", "before", "after", "error"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "pruned.pt"], "accepted: '.safetensors'"),
        (["--out", "nowhere/pruned.safetensors"], "there is no folder nowhere"),
        (["--out", "x.safetensors", "--sites", "layer7.*"], "no gate is called 'layer7.*'"),
        (["--out", "x.safetensors", "--metric", "top5"], "'top5' for 2 classes"),
        (["--out", "x.safetensors", "--data", "nowhere"], "nowhere"),
    ],
)
def test_bad_input(refused, trained, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused("prune", trained, *words)
    assert not list(tmp_path.iterdir())


def test_usage(senet, trained):
    for words in ([trained], [trained, "--out", "x.safetensors", "--max-drop", "-1"], ["--out", "x.safetensors"]):
        assert senet("prune", *words)[0] == 2
