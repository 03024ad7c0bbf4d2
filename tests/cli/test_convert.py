import argparse
import json
import os

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file

from senet.models.weights.files import read_tensors


@pytest.fixture
def file(tmp_path):
    state = {f"module.{key}": value for key, value in torchvision.models.resnet18().state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "w.pth.tar")
    return tmp_path / "w.pth.tar"


def test_convert_says_what_it_did(senet, file, tmp_path):
    code, out, err = senet("convert", file, tmp_path / "ours.safetensors", "--model", "resnet18")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"resnet18: 122 tensors, senet -> senet, in {tmp_path / 'ours.safetensors'}",
        "Unwrapped: entry 'state_dict', prefix 'module.'",
    ]
    assert read_tensors(tmp_path / "ours.safetensors")[1]["model"] == "resnet18"


def test_convert_to_another_layout_as_json(senet, file, tmp_path):
    target = tmp_path / "cv.safetensors"
    words = ("--model", "resnet18", "--from", "torchvision", "--to", "pytorchcv", "--json")
    code, out, _ = senet("convert", file, target, *words)
    assert code == 0
    told = json.loads(out)
    assert (told["layout"], told["to"], told["tensors"]) == ("torchvision", "pytorchcv", 122)
    assert "features.stage4.unit2.body.conv2.conv.weight" in load_file(target)

    code, out, _ = senet("convert", target, tmp_path / "ours.safetensors", "--model", "resnet18")
    assert code == 0
    assert "Make sure that it is this network, which no tensor shows: of pytorchcv, its resnet50" in out


def test_convert_with_options_and_without_what_serves_training(senet, tmp_path):
    theirs = torchvision.models.mobilenet_v3_small()
    torch.save({"model": theirs.state_dict(), "model_ema": theirs.state_dict()}, tmp_path / "w.pth")
    words = ("--model", "mobilenetv3_small_100", "--set", "norm_eps=0.001", "--entry", "model_ema")
    assert senet("convert", tmp_path / "w.pth", tmp_path / "ours.safetensors", *words)[0] == 0
    assert read_tensors(tmp_path / "ours.safetensors")[1]["options"]["norm_eps"] == 0.001

    net = timm.create_model("inception_v3", aux_logits=True)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    code, out, _ = senet("convert", tmp_path / "w.pth", tmp_path / "v3.safetensors", "--model", "inception_v3")
    assert code == 0
    assert "Left out, for training only: AuxLogits" in out


def test_convert_one_of_several_and_what_lay_beside(senet, refused, tmp_path):
    state = torchvision.models.resnet18().state_dict()
    content = {"args": argparse.Namespace(lr=0.1), "state_dict": state, "state_dict_ema": state}
    torch.save(content, tmp_path / "w.pth.tar")
    words = ("convert", tmp_path / "w.pth.tar", tmp_path / "x.safetensors", "--model", "resnet18")
    assert "`senet convert --entry state_dict_ema`" in refused(*words)
    assert "did you mean 'state_dict_ema'" in refused(*words, "--entry", "state_dict_em")
    assert os.listdir(tmp_path) == ["w.pth.tar"]
    code, out, _ = senet(*words, "--entry", "state_dict_ema")
    assert code == 0
    assert "Unwrapped: entry 'state_dict_ema'" in out.splitlines()
    assert "Not read, as they are no tensors: argparse.Namespace" in out.splitlines()
    assert json.loads(senet(*words, "--entry", "state_dict", "--json")[1])["unread"] == ["argparse.Namespace"]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".caffemodel"])
def test_what_stands_where_weights_should(refused, tmp_path, suffix):
    (tmp_path / f"w{suffix}").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n")
    words = ("convert", tmp_path / f"w{suffix}", tmp_path / "x.safetensors", "--model", "seresnet50_caffe")
    assert "is a Git LFS pointer, not the weights; run `git lfs pull`" in refused(*words)


def test_refusals_are_one_line_and_write_nothing(refused, file, tmp_path):
    target = tmp_path / "x.safetensors"
    assert "ends in '.pth'" in refused("convert", file, tmp_path / "x.pth")
    assert "have stem_pool=padded" in refused("convert", file, target, "--model", "resnet50_caffe", "--from", "timm")
    assert "no such file" in refused("convert", tmp_path / "absent.pth", target)
    assert "missing" in refused("convert", file, target, "--model", "resnet34")
    assert os.listdir(tmp_path) == [file.name]
