from __future__ import annotations

import json

import pytest


def test_a_run_and_its_held_out_images(senet, trained, tmp_path):
    code, out, err = senet(
        "excite", trained, "--out", tmp_path / "lab", "--limit", 4, "--images", 1, "--blocks", "layer1*"
    )
    assert (code, err) == (0, "")
    told = json.loads((tmp_path / "lab" / "excitation.json").read_text())
    assert told["classes"] == ["blue", "red"]
    assert (told["images"], told["leave_one_out"]["images"]) == (6, 4)
    assert len(told["portraits"]) == 1
    for block in told["blocks"]:
        assert block in out
    said = " ".join(out.split())
    assert "Accuracies are of 4 images drawn from 6" in said
    assert "The page: " in said
    assert (tmp_path / "lab" / "excitation.html").is_file()
    assert (tmp_path / "lab" / "figures" / "leave-one-out.pdf").is_file()


def test_other_images_some_classes_and_some_blocks(senet, trained, photos, tmp_path):
    words = ["--data", photos, "--classes", "red", "--blocks", "layer3*", "--images", 0]
    code, out, _ = senet("excite", trained, "--out", tmp_path, *words)
    assert code == 0
    told = json.loads((tmp_path / "excitation.json").read_text())
    assert told["chosen"] == ["red"]
    assert list(told["blocks"]) == ["layer3.0.se"]
    assert "layer1" not in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--classes", "blue,gren"], "no class is called 'gren'"),
        (["--blocks", "layer9*"], "no block is called 'layer9*'"),
        (["--data", "nowhere"], "nowhere"),
        (["--set", "sise=3"], "did you mean 'size'"),
    ],
)
def test_bad_input(refused, trained, tmp_path, words, said):
    assert said in refused("excite", trained, "--out", tmp_path, *words)


def test_a_place_that_cannot_be_written_is_found_first(refused, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot make the folder" in refused("excite", "no-such-run", "--out", tmp_path / "file")


def test_images_without_classes(refused, trained, photos, tmp_path):
    assert "nor class folders" in refused("excite", trained, "--data", photos / "red", "--out", tmp_path)
