from __future__ import annotations

import json

import pytest

QUICK = ["--batch", 2, "--size", 16, "--rounds", 1, "--device", "cpu"]


def test_training_on_the_screen_in_a_file_and_drawn(senet, tmp_path):
    files = {name: tmp_path / f"tax.{name}" for name in ("json", "svg")}
    words = ["--ways", "eager,fused", "--sites", "--json", files["json"], "--plot", files["svg"]]
    code, out, _ = senet("tax", "cifar_seresnet8", *QUICK, *words)
    assert code == 0
    said = " ".join(out.split())
    assert "cifar_seresnet8 with 3 gated maps, against its twin without: a training step, batch 2, 16x16" in said
    for row in ("eager SE +9 / +30", "eager plain +0 / +0", "fused SE -", "layer1.0.se 16x16x16 +3 / +10"):
        assert row in said
    assert "Left out" not in said
    assert max(map(len, out.partition("All of it")[0].splitlines())) <= 80
    told = json.loads(files["json"].read_text())
    assert told["model"] == "cifar_seresnet8"
    assert [price["way"] for price in told["prices"]] == ["eager", "fused"]
    assert "<svg" in files["svg"].read_text()


def test_inference_says_nothing_of_training(senet):
    code, out, _ = senet(
        "tax", "timm:seresnet18", *QUICK, "--infer", "--ways", "eager", "--dtype", "bfloat16", "--size", 64, "--sites"
    )
    assert code == 0
    assert "inference, batch 2, 64x64, bfloat16" in " ".join(out.split())
    assert "kept" not in out
    assert "+24 " in out  # 8 gates: read by the pool, read and written by the scale
    assert "/" not in out.partition("added: passes")[0].partition("launches")[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seresnt50"], "did you mean 'seresnet50'"),
        (["cifar_resnet8", *QUICK], "has no map that is gated by its own global average"),
        (["cifar_seresnet8", "--ways", "eager,fast"], "no way is called 'fast'"),
        (["cifar_seresnet8", "--ways", "folded"], "'folded' cannot be had: it is for inference"),
        (["cifar_seresnet8", "--device", "toaster"], "device is 'toaster'"),
        (["cifar_seresnet8", "--plot", "x.gif"], "x.gif is no picture's name"),
        (["cifar_seresnet8", "--json", "nowhere/x.json"], "cannot write nowhere/x.json: there is no folder nowhere"),
    ],
)
def test_bad_input(refused, words, said):
    assert said in refused("tax", *words)
