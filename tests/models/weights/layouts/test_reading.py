import os
import pickle
from argparse import Namespace
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from senet.errors import InputError
from senet.models.weights.files import write_tensors
from senet.models.weights.layouts.reading import SUFFIXES, read_weights

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(2, dtype=torch.float16)}


def same(weights, state=STATE):
    assert weights.tensors.keys() == state.keys()
    assert all(torch.equal(weights.tensors[key], state[key]) for key in state)
    return True


def refused(path, **options):
    """The one line that says why."""
    before = sorted(os.listdir(path.parent))
    with pytest.raises(InputError) as error:
        read_weights(path, **options)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert sorted(os.listdir(path.parent)) == before
    return str(error.value)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".pth.tar", ".ckpt", ".pkl"])
@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saved(tmp_path, suffix, zipped):
    path = tmp_path / f"w{suffix}"
    torch.save(OrderedDict(STATE), path, _use_new_zipfile_serialization=zipped)
    weights = read_weights(path)
    assert same(weights)
    assert weights.info == {}
    assert weights.taken == ()


def test_safetensors_of_others_and_ours(tmp_path):
    save_file(STATE, tmp_path / "theirs.safetensors", {"format": "pt"})
    assert same(read_weights(tmp_path / "theirs.safetensors"))
    assert read_weights(tmp_path / "theirs.safetensors").info == {}
    write_tensors(tmp_path / "ours.safetensors", STATE, {"model": "resnet18"})
    assert same(read_weights(tmp_path / "ours.safetensors"))
    assert read_weights(tmp_path / "ours.safetensors").info == {"model": "resnet18"}
    assert "has no entries" in refused(tmp_path / "ours.safetensors", entry="model")


def test_checkpoints_and_wrappers_are_unwrapped_and_say_so(tmp_path):
    path = tmp_path / "checkpoint.pth.tar"
    wrapped = {f"module._orig_mod.{key}": value for key, value in STATE.items()}
    torch.save({"epoch": 3, "arch": "resnet18", "optimizer": {"lr": [0.1]}, "state_dict": wrapped}, path)
    weights = read_weights(path)
    assert same(weights)
    assert weights.taken == ("entry 'state_dict'", "prefix 'module.'", "prefix '_orig_mod.'")


def test_a_prefix_that_not_all_have_stays(tmp_path):
    state = {"model.a": torch.zeros(1), "fc": torch.zeros(1)}
    torch.save(state, tmp_path / "w.pth")
    assert same(read_weights(tmp_path / "w.pth"), state)


def test_one_of_several_entries_is_taken_only_by_name(tmp_path):
    path = tmp_path / "w.pth"
    average = {key: value + 1 for key, value in STATE.items()}
    torch.save({"state_dict": STATE, "state_dict_ema": average, "teacher": STATE}, path)
    told = refused(path)
    assert "as 'state_dict' and 'state_dict_ema'; name the entry that you want, for example entry='state_" in told
    assert "`senet convert --entry state_dict_ema`" in told
    assert same(read_weights(path, entry="state_dict_ema"), average)
    assert read_weights(path, entry="teacher").taken == ("entry 'teacher'",)
    assert "entry 'techer' is not in the file; did you mean 'teacher'?" in refused(path, entry="techer")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"epoch": 3}, "holds epoch; accepted: tensors by name"),
        ({}, "holds nothing; accepted: tensors by name"),
        ([torch.zeros(1)], "holds a list; accepted: tensors by name"),
        (torch.zeros(1), "holds a Tensor; accepted: tensors by name"),
        ({"a": torch.zeros(1), "b": 3}, "holds a, b; accepted: tensors by name"),
        ({3: torch.zeros(1)}, "holds 3; accepted: tensors by name"),
    ],
)
def test_content_that_is_no_state_dict(tmp_path, content, told):
    torch.save(content, tmp_path / "w.pth")
    assert told in refused(tmp_path / "w.pth")


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("unpickled",))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "save",
    [
        lambda path: torch.save(Evil(), path),
        lambda path: torch.save({"state_dict": STATE, "more": Evil()}, path),
        lambda path: torch.save({"state_dict": STATE, "more": Evil()}, path, _use_new_zipfile_serialization=False),
        lambda path: path.write_bytes(pickle.dumps(Evil())),
        lambda path: path.write_bytes(pickle.dumps(Evil(), protocol=2)),
    ],
)
def test_code_is_never_run(tmp_path, monkeypatch, suffix, save):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"w{suffix}"
    save(path)
    told = refused(path)
    assert not (tmp_path / "unpickled").exists()
    if suffix not in (".safetensors", ".onnx"):  # whose readers know no pickles
        assert "it names posix.mkdir, which no weights need" in told or "is a plain pickle, which could run" in told
        assert "weights_only" not in told  # nobody is told how to run it all the same


@pytest.mark.parametrize("content", [nn.Linear(2, 2), {"epoch": 3, "model": nn.Linear(2, 2), "ema": None}])
def test_networks_are_refused_and_the_way_out_is_said(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    told = refused(tmp_path / "w.pth")
    assert "holds a pickled object, torch.nn.modules.linear.Linear, whose code would have to be run" in told
    assert told.endswith("Save model.state_dict() anew where it comes from")


def test_what_was_left_out_beside_the_weights_is_said(tmp_path):
    torch.save({"args": Namespace(lr=1), "state_dict": STATE}, tmp_path / "w.pth")
    weights = read_weights(tmp_path / "w.pth")
    assert same(weights)
    assert weights.unread == ("argparse.Namespace",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0, 1, 10, 100, 500, -1])
def test_a_file_cut_off(tmp_path, zipped, kept):
    path = tmp_path / "w.pth"
    torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:kept])
    told = refused(path)
    assert "is cut off" in told or (not kept and "is empty" in told)


@pytest.mark.parametrize("junk", [b"hello world", b"PK\x03\x04 and more", b"\x80\x02", b"\x00" * 1000])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_junk(tmp_path, junk, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(junk)
    told = refused(path)
    assert any(kind in told for kind in ("is a text, not the", "is cut off", "is a plain pickle", "nothing but zeros"))


def test_no_file_and_another_kind_of_file(tmp_path):
    assert "no such file" in refused(tmp_path / "w.pth")
    assert "no such file" in refused(tmp_path)
    (tmp_path / "w.h5").touch()
    assert "ends in '.h5'; accepted: .safetensors, .pth, .pt" in refused(tmp_path / "w.h5")
    (tmp_path / "w.caffemodel").touch()
    assert refused(tmp_path / "w.caffemodel").endswith("; the authors' files go through `senet convert` first")
