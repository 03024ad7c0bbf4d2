"""What a user can get wrong: each is one line and exit code 2, and nothing is lost."""

import shutil
import struct
import zlib

import pytest
import torch
from PIL import Image

from senet.models.weights.files import read_tensors, write_tensors
from senet.options import to_plain
from senet.recipes import get_recipe

TRAIN = ["train", "synthetic.seresnet8", "--out"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "cifar.seresnt20", "--out", "x"], "did you mean 'cifar.seresnet20'"),
        ([*TRAIN, "x", "--set", "optim.lrr=1"], "did you mean 'lr'"),
        ([*TRAIN, "x", "--set", "optim.lr=fast"], "is 'fast'; accepted: a number"),
        ([*TRAIN, "x", "--set", "optim.lr"], "an override is NAME=VALUE"),
        ([*TRAIN, "x", "--set", "optm.lr=1"], "did you mean 'optim'"),
        ([*TRAIN, "x", "--epochs", "0"], "schedule.epochs is 0"),
        ([*TRAIN, "x", "--set", "model.name=cifar_seresnet9"], "did you mean 'cifar_seresnet"),
        ([*TRAIN, "x", "--set", "model.options.placment=pre"], "did you mean 'placement'"),
        ([*TRAIN, "x", "--set", "model.options.placement=3x3"], "BasicBlock units accept"),
        ([*TRAIN, "x", "--set", "model.options.attn=sse"], "no block is called 'sse'"),
        ([*TRAIN, "x", "--set", "model.options.num_classes=3"], "follows from the data"),
        ([*TRAIN, "x", "--set", "data.batch_size=4096"], "data.batch_size"),
        (["info", "seresnt50"], "did you mean 'seresnet50'"),
        (["info", "seresnet50", "--set", "atn=eca"], "did you mean 'attn'"),
        (["models", "nothing*"], "no model matches"),
        (["recipes", "nothing*"], "no recipe matches"),
        (["twins", "cifar.resnet8", "--out", "x"], "give at least two"),
        (["eval", "nowhere"], "nowhere is no run, file or network"),
        (["eval", "./nowhere"], "nowhere: no such file"),
        (["predict", "cifar_seresnet9", "a.png"], "did you mean 'cifar_seresnet"),
        (["info", "cifar_seresnet8.fashionmnist"], "did you mean 'fashion_mnist'"),
        (["info", "cifar_seresnet9.fashion_mnist"], "did you mean 'cifar_seresnet"),
        (["compare", "nowhere"], "holds no run"),
        (["report", "nowhere"], "holds no run"),
    ],
)
def test_names_and_values(refused, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    assert said in refused(*words)


def test_usage_errors_exit_with_2_too(senet):
    for words in (["train"], ["train", "cifar.resnet8"], ["nothing"], ["predict", "run"], ["train", "--nothing"]):
        code, _, err = senet(*words)
        assert code == 2
        assert "Traceback" not in err


def test_data_that_is_not_there(refused, tmp_path):
    said = refused("train", "cifar.resnet8", "--data", tmp_path / "nowhere", "--out", tmp_path / "run")
    assert "nowhere" in said
    (tmp_path / "empty").mkdir()
    said = refused("train", "cifar.resnet8", "--data", tmp_path / "empty", "--out", tmp_path / "run2")
    assert "empty" in said


def test_a_class_without_an_image_is_named(refused, tmp_path, photos):
    shutil.copytree(photos, tmp_path / "data")
    (tmp_path / "data" / "green").mkdir()
    assert "green" in refused("train", "cifar.resnet8", "--data", tmp_path / "data", "--out", tmp_path / "run")


def test_train_and_val_of_different_classes(refused, tmp_path, photos):
    shutil.copytree(photos, tmp_path / "data" / "train")
    shutil.copytree(photos, tmp_path / "data" / "val")
    (tmp_path / "data" / "val" / "red").rename(tmp_path / "data" / "val" / "rot")
    said = refused("train", "cifar.resnet8", "--data", tmp_path / "data", "--out", tmp_path / "run")
    assert "red" in said
    assert "rot" in said


def bomb(path):
    """A PNG that says it is 60,000 x 60,000."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


BROKEN = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not an image"),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "bomb": bomb,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_an_image_that_cannot_be_read_is_named(refused, tmp_path, photos, trained, kind):
    shutil.copytree(photos, tmp_path / "data")
    victim = tmp_path / "data" / "red" / "04.png"
    BROKEN[kind](victim)
    assert "04.png" in refused("train", "cifar.resnet8", "--data", tmp_path / "data", "--out", tmp_path / "run")
    assert "04.png" in refused("predict", trained, victim)
    for path in victim.parent.iterdir():  # some of them held out
        BROKEN[kind](path)
    assert str(victim.parent) in refused("eval", trained, "--data", tmp_path / "data")


def test_predict_still_answers_for_the_others(senet, tmp_path, photos, trained):
    (tmp_path / "broken.png").write_bytes(b"")
    code, out, err = senet(
        "predict", trained, photos / "red" / "01.png", tmp_path / "broken.png", tmp_path / "none.png"
    )
    assert code == 2
    assert "01.png: " in out
    assert "broken.png" in err
    assert "none.png" in err


def test_eval_on_other_classes(refused, tmp_path, photos, trained):
    shutil.copytree(photos, tmp_path / "data")
    (tmp_path / "data" / "red").rename(tmp_path / "data" / "rot")
    said = refused("eval", trained, "--data", tmp_path / "data")
    assert "missing: red" in said
    assert "extra: rot" in said


def test_more_workers_than_images(senet, tmp_path, photos):
    words = ["--set", "data.workers=64", "--set", "data.cache=disk", "--set", "data.size=16", "--batch-size", 12]
    code, _, err = senet("train", "cifar.resnet8", "--data", photos, "--out", tmp_path / "run", "--epochs", 1, *words)
    assert code == 0, err


def test_an_output_that_cannot_be_written(refused, tmp_path, trained):
    (tmp_path / "file").touch()
    assert "cannot write" in refused(*TRAIN, tmp_path / "file" / "run")
    assert "cannot write" in refused("report", trained, "--out", tmp_path / "file" / "report.html")
    assert "cannot write" in refused("report", trained, "--out", tmp_path / "nowhere" / "report.html")


def test_a_folder_that_holds_another_run(refused, trained):
    before = (trained / "model.safetensors").read_bytes()
    assert "already holds a run of another recipe (cifar.seresnet8)" in refused(*TRAIN, trained)
    assert "already holds a run of another recipe" in refused(*TRAIN, trained, "--resume")
    assert (trained / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("damage", ["truncated", "no checkpoint", "another network"])
def test_resuming_from_what_is_no_checkpoint(refused, tmp_path, photos, trained, damage):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    checkpoint = run / "checkpoint.safetensors"
    if damage == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    elif damage == "no checkpoint":
        checkpoint.write_bytes(b"PK\x03\x04 a pickle inside a zip")
    else:
        write_tensors(checkpoint, {"model.fc.weight": torch.zeros(2, 64)}, read_tensors(checkpoint)[1])
    recipe = ["cifar.seresnet8", "--data", photos, "--batch-size", 8, "--epochs", 3, "--lr", 0.05]
    sets = ["--set", "data.size=16", "--set", "data.val_fraction=0.25", "--set", "schedule.warmup=0"]
    said = refused("train", *recipe, *sets, "--out", run, "--resume")
    assert str(checkpoint) in said
    if damage == "another network":
        assert "missing (bn1.bias, " in said


def test_weights_of_another_network(refused, tmp_path, photos):
    info = {"recipe": to_plain(get_recipe("cifar.seresnet8")), "classes": ["blue", "red"]}
    write_tensors(tmp_path / "w.safetensors", {"head.weight": torch.zeros(1)}, info)
    said = refused("predict", tmp_path / "w.safetensors", photos / "red" / "01.png")
    assert "missing (" in said
    assert "1 extra (head.weight)" in said


def test_a_loss_that_becomes_nan(refused, tmp_path):
    said = refused(*TRAIN, tmp_path / "run", "--lr", 1e18, "--set", "data.size=16", "--epochs", 9)
    assert "stopped, the last checkpoint is kept" in said


def test_comparing_different_data(refused, tmp_path, trained, senet):
    senet(*TRAIN, tmp_path / "run", "--epochs", 1, "--set", "data.size=16")
    assert "have different lists of classes" in refused("compare", trained, tmp_path / "run")


@pytest.mark.parametrize("mode", ["CMYK", "P", "LA", "I;16", "1"])
def test_unusual_images_are_read(senet, tmp_path, trained, mode):
    suffix = ".jpg" if mode == "CMYK" else ".png"
    Image.new(mode, (24, 20)).save(tmp_path / f"image{suffix}")
    code, out, err = senet("predict", trained, tmp_path / f"image{suffix}")
    assert code == 0, err
    assert "image" in out
