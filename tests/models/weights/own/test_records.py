from __future__ import annotations

import dataclasses
import importlib.util
import os
import runpy
from pathlib import Path

import pytest
import torch
from PIL import Image

from senet.errors import InputError
from senet.models import create_model
from senet.models.weights import pretrained
from senet.models.weights.files import read_tensors
from senet.models.weights.own import records
from senet.models.weights.own.records import FOLDER, TAGS, file_name, own_file, own_weights, read_records
from senet.models.weights.pretrained import find_weight
from senet.recipes import get_recipe
from senet.train.apply import evaluate_run, predict_image
from senet.train.data import fashion_mnist
from senet.train.loop import train
from senet.train.trained import read_trained

ROOT = Path(__file__).parents[4]
RECORDS = read_records()
EACH = pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record.model}.{record.tag}")
FASHION = next(record for record in RECORDS if (record.model, record.tag) == ("cifar_seresnet8", "fashion_mnist"))


def weight_of(record):
    return find_weight(record.model, record.tag)


# --- what lies in the package


def test_files_and_records_come_in_pairs():
    assert RECORDS
    assert {path.stem for path in FOLDER.glob("*.safetensors")} == {path.stem for path in FOLDER.glob("*.json")}
    assert {path.stem for path in FOLDER.glob("*.json")} == {f"{record.model}.{record.tag}" for record in RECORDS}
    assert all(path.stat().st_size < 2**20 for path in FOLDER.iterdir() if path.is_file())


def test_every_se_network_has_its_plain_twin_of_the_same_recipe():
    found = {(record.model, record.tag): record for record in RECORDS}
    with_se = [key for key in found if "_se" in key[0]]
    assert len(found) == 2 * len(with_se)
    for model, tag in with_se:
        se, plain = found[model, tag], found[model.replace("_se", "_"), tag]
        for key in ("settings", "epochs", "train_images", "images", "seed"):
            assert se.run[key] == plain.run[key]
        assert se.seed_top1.keys() == plain.seed_top1.keys()


@EACH
def test_a_record_is_of_its_file_and_follows_from_its_runs(record):
    _, info = read_tensors(own_file(weight_of(record)))
    recipe = info["recipe"]
    assert (recipe["model"], recipe["run"]["seed"]) == ({"name": record.model, "options": {}}, 0)
    assert info["classes"] == record.run["classes"]
    assert info["images"] == record.run["images"]
    assert info["metrics"]["epoch"] == record.run["epochs"]  # the last, whichever was best
    assert recipe["data"]["root"] is None
    assert record.seed_top1["0"] == record.run["top1"] == info["metrics"]["val_top1"]
    assert record.right <= record.right_in_5 <= record.images
    assert abs(record.top1 - record.run["top1"]) < 0.1  # what rounding to float16 may cost
    assert abs(record.top5 - record.run["top5"]) < 0.1
    assert len(record.commit) >= 7


@EACH
def test_no_path_of_a_machine_is_in_them(record):
    path = FOLDER / file_name(record.model, record.tag)
    for content in (path.read_bytes(), path.with_suffix(".json").read_bytes()):
        assert not [word for word in (b"/tmp", b"/home", b"/root", b"/work", b"Users") if word in content]


@EACH
def test_the_accuracy_is_that_of_the_record(record):
    """Of other processors' rounding two images may fall on the other side."""
    data = os.environ.get("SENET_CIFAR10") if record.tag == "cifar10_jpeg" else None
    if record.tag == "cifar10_jpeg" and data is None:
        pytest.skip("SENET_CIFAR10 names no folder with the JPEG copy of CIFAR-10")
    if record.tag == "fashion_mnist" and fashion_mnist.find_files(fashion_mnist.SYSTEM_DIR) is None:
        pytest.skip("Fashion-MNIST is not installed")
    trained = read_trained(f"{record.model}.{record.tag}")
    score = evaluate_run(trained, Path(data) if data else None)
    assert score.images == record.images
    assert abs(sum(row[label] for label, row in enumerate(score.confusion)) - record.right) <= 2


# --- using them


@EACH
def test_weights_are_described_as_they_are(record):
    weight = weight_of(record)
    assert weight in own_weights()[record.model]
    assert (weight.hub, weight.num_classes) == (None, len(record.run["classes"]))
    assert (weight.published[0].top1, weight.preprocessing) == (record.top1, record.preprocessing)
    assert weight.published[0].top1 == pytest.approx(100 * record.right / record.images)


def test_the_default_is_the_first_in_the_order_of_tags(monkeypatch):
    assert TAGS == ("cifar10_jpeg", "fashion_mnist")
    there = [dataclasses.replace(FASHION, tag=tag) for tag in reversed(TAGS)]
    monkeypatch.setattr(records, "read_records", lambda: there)
    own = own_weights.__wrapped__()
    assert [weight.tag for weight in own["cifar_seresnet8"]] == list(TAGS)
    monkeypatch.setattr(pretrained, "own_weights", lambda: own)
    assert str(find_weight("cifar_seresnet8")) == "cifar_seresnet8.cifar10_jpeg"
    assert str(find_weight("cifar_seresnet8", "fashion_mnist")) == "cifar_seresnet8.fashion_mnist"


@EACH
def test_a_network_takes_classes_and_channels_from_them(record):
    net = create_model(record.model, pretrained=record.tag).eval()
    state, _ = read_tensors(own_file(weight_of(record)))
    assert all(torch.equal(value, state[name].to(value.dtype)) for name, value in net.state_dict().items())
    how = record.preprocessing
    assert net.loaded.preprocessing == how
    assert net(torch.randn(1, how.channels, how.size, how.size)).shape == (1, 10)


def test_others_wishes_are_met_or_refused():
    tag = FASHION.tag
    net = create_model("cifar_seresnet8", pretrained=tag, num_classes=3)
    assert net.loaded.dropped == net.loaded.missing == ("fc.weight", "fc.bias")
    maps = create_model("cifar_seresnet8", pretrained=tag, features_only=True)(torch.randn(1, 1, 28, 28))
    assert [len(m[0]) for m in maps][-1] == 64
    with pytest.raises(InputError, match="another network: attn=se instead of eca"):
        create_model("cifar_seresnet8", pretrained=tag, attn="eca")
    with pytest.raises(InputError, match="the first convolution takes 1 channels, not 3; give in_chans=1 "):
        create_model("cifar_seresnet8", pretrained=tag, in_chans=3)


def test_an_image_gets_the_names_of_classes(tmp_path):
    Image.effect_noise((50, 40), 90).convert("RGB").save(tmp_path / "a.png")
    trained = read_trained("cifar_seresnet8.fashion_mnist")
    found = predict_image(trained, tmp_path / "a.png", top=10)
    assert {name for name, _ in found} == set(FASHION.run["classes"])
    assert (trained.data.channels, trained.data.size) == (1, 28)


def test_a_damaged_or_missing_file_is_refused(tmp_path, monkeypatch):
    weight = weight_of(FASHION)
    content = own_file(weight).read_bytes()
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    with pytest.raises(InputError, match=r"its SHA-256 is that of no file, not .*; install senet again"):
        own_file(weight)
    (tmp_path / weight.file).write_bytes(content[:-1])
    with pytest.raises(InputError, match="is damaged"):
        own_file(weight)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'senet\[weights\]'"):
        own_file(weight)


def test_a_record_with_a_field_missing_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('{"model": "cifar_resnet8"}')
    with pytest.raises(InputError, match=r"the record a\.json lacks 'tag'"):
        read_records(tmp_path)


@pytest.mark.parametrize("damaged", [lambda content: content[:-9], lambda content: content.replace(b"sha", b"\xff")])
def test_a_record_that_is_cut_off_or_garbled_is_refused(tmp_path, damaged):
    content = (FOLDER / file_name("cifar_seresnet8", "fashion_mnist")).with_suffix(".json").read_bytes()
    (tmp_path / "a.json").write_bytes(damaged(content))
    with pytest.raises(InputError, match=r"^the record a\.json is damaged: .*; install senet again$"):
        read_records(tmp_path)


# --- the tool that packs them


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Complete runs on made-up images: two seeds of one network, and one of another."""
    folder = tmp_path_factory.mktemp("runs")
    small = {"data.size": 16, "data.limit": 48, "data.batch_size": 16, "schedule.epochs": 2}
    for seed in (0, 1):
        train(get_recipe("synthetic.seresnet8").override({**small, "run.seed": seed}), folder / f"seed{seed}")
    train(get_recipe("synthetic.resnet8").override(small), folder / "plain")
    return folder


@pytest.fixture
def tool(runs, monkeypatch):
    tool = runpy.run_path(str(ROOT / "tools/own_weights.py"))
    seen = read_tensors(runs / "seed0/model.safetensors")[1]["images"]["val"]
    tool["DATA"][seen] = tool["DataSet"]("made_up", "made-up images", "synthetic")
    return tool


def test_seed_0_is_packed_and_the_others_give_the_spread(tool, runs, tmp_path):
    (record,) = tool["pack"]([runs / "seed1", runs / "seed0"], "0123456", tmp_path)
    assert (record.model, record.tag, record.run["seed"], record.commit) == ("cifar_seresnet8", "made_up", 0, "0123456")
    assert record.seed_top1.keys() == {"0", "1"}
    assert record.right <= record.right_in_5 <= record.images
    assert read_records(tmp_path) == (record,)
    packed, info = read_tensors(tmp_path / "cifar_seresnet8.made_up.safetensors")
    tensors, _ = read_tensors(runs / "seed0/model.safetensors")
    assert info["recipe"]["data"]["source"] == "synthetic"
    assert packed["conv1.weight"].dtype == torch.float16
    for name, tensor in tensors.items():
        torch.testing.assert_close(packed[name].to(tensor.dtype), tensor, rtol=1e-3, atol=1e-6)
    again = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    tool["pack"]([runs / "seed0", runs / "seed1"], "0123456", tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == again


def test_all_or_none(tool, runs, tmp_path, monkeypatch):
    both = [runs / "plain", runs / "seed0"]
    evaluate = tool["evaluate_run"]

    def fail_at_the_second(trained):
        if trained.recipe.model.name == "cifar_seresnet8":
            raise InputError("evaluation failed")
        return evaluate(trained)

    with monkeypatch.context() as patch:
        patch.setitem(tool["pack"].__globals__, "evaluate_run", fail_at_the_second)
        with pytest.raises(InputError, match="evaluation failed"):
            tool["pack"](both, "0123456", tmp_path)
    assert not list(tmp_path.iterdir())
    assert [record.model for record in tool["pack"](both, "0123456", tmp_path)] == ["cifar_resnet8", "cifar_seresnet8"]
    assert len(list(tmp_path.iterdir())) == 4


def test_the_held_out_images_must_be_those_of_the_training(tool, tmp_path):
    for split, count in (("train", 8), ("val", 3)):
        for shade, name in ((40, "dark"), (200, "light")):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (16, 16), (shade + i,) * 3).save(tmp_path / "data" / split / name / f"{i}.png")
    small = {"data.size": 16, "data.batch_size": 8, "schedule.epochs": 1, "schedule.warmup": 0.0}
    train(get_recipe("cifar.resnet8").override({"data.root": str(tmp_path / "data"), **small}), tmp_path / "run")
    seen = read_tensors(tmp_path / "run/model.safetensors")[1]["images"]["val"]
    tool["DATA"][seen] = tool["DataSet"]("shades", "two shades", "folder")
    (tmp_path / "data/val/dark/0.png").unlink()
    (tmp_path / "packed").mkdir()
    with pytest.raises(InputError, match=r"the held-out images of .* are not those of the training any more"):
        tool["pack"]([tmp_path / "run"], "0123456", tmp_path / "packed")
    assert not list((tmp_path / "packed").iterdir())


def test_what_must_not_be_packed(tool, runs, tmp_path):
    with pytest.raises(InputError, match="cifar_seresnet8 has no run of seed 0"):
        tool["pack"]([runs / "seed1"], "0123456", tmp_path)
    tool["DATA"].popitem()
    with pytest.raises(InputError, match="judged by images that are not known here; known: Fashion-MNIST"):
        tool["pack"]([runs / "seed0"], "0123456", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_data_set_is_told_by_its_images(tool):
    assert {record.run["images"]["val"]: record.tag for record in RECORDS}.items() <= {
        fingerprint: data.tag for fingerprint, data in tool["DATA"].items()
    }.items()
    assert {data.tag for data in tool["DATA"].values()} == {*TAGS, "made_up"}
