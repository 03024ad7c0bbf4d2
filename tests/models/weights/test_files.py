import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from senet import create_model
from senet.errors import InputError
from senet.models.weights.files import load_into, read_tensors, write_tensors


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


def test_there_and_back(path):
    tensors = {"a": torch.randn(3, 2), "b": torch.tensor(7), "c": torch.randn(2, 3, 4, 5).to(torch.bfloat16)}
    write_tensors(path, tensors, {"classes": ["é", "b"]})
    read, info = read_tensors(path)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[k], tensors[k]) and read[k].dtype == tensors[k].dtype for k in tensors)
    assert info == {"classes": ["é", "b"]}
    assert os.listdir(path.parent) == [path.name]


def test_a_crash_while_writing_leaves_the_old_file(path, monkeypatch):
    write_tensors(path, {"a": torch.zeros(1)}, {})

    def crash(fd):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        write_tensors(path, {"a": torch.ones(1)}, {})
    assert read_tensors(path)[0]["a"] == 0


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        write_tensors(tmp_path / "file" / "w.safetensors", {"a": torch.zeros(1)}, {})


def test_no_file(path):
    with pytest.raises(InputError, match="no such file"):
        read_tensors(path)


@pytest.mark.parametrize("kept", [0, 4, 30, -1])
def test_a_file_cut_off(path, kept):
    write_tensors(path, {"a": torch.zeros(100)}, {})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"is no safetensors file, or is cut off|is empty"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n", "a Git LFS pointer, not the weights"),
        (b"<html><title>Sign in</title></html>", "an HTML page, not the weights: 'Sign in'"),
        (b'{"error": "no such repository"}', "a JSON text, not the weights"),
    ],
)
def test_what_stands_where_weights_should(path, content, told):
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"is {told}"):
        read_tensors(path)


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("unpickled",))


@pytest.mark.parametrize("save", [lambda value, file: pickle.dump(value, file), torch.save])
def test_a_pickle_is_refused_and_not_run(path, monkeypatch, save):
    monkeypatch.chdir(path.parent)
    with path.open("wb") as file:
        save(Evil(), file)
    with pytest.raises(InputError, match=r"is a plain pickle, which could run code|is what torch.save writes"):
        read_tensors(path)
    assert not (path.parent / "unpickled").exists()


def test_a_file_of_others_does_not_say_what_it_is(path):
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="does not say which network it belongs to"):
        read_tensors(path)


def test_what_is_missing_extra_and_of_another_shape_is_listed():
    model = create_model("cifar_seresnet8")
    tensors = dict(model.state_dict())
    before = {k: v.clone() for k, v in tensors.items()}
    del tensors["fc.bias"]
    tensors["head.bias"] = torch.zeros(1)
    tensors["conv1.weight"] = torch.zeros(16, 1, 3, 3)
    with pytest.raises(InputError) as refused:
        load_into(model, tensors, what="w.safetensors")
    assert str(refused.value) == (
        "w.safetensors belongs to another network: 1 missing (fc.bias); 1 extra (head.bias); "
        "1 of another shape (conv1.weight [16, 1, 3, 3] instead of [16, 3, 3, 3])"
    )
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_long_list_is_cut():
    with pytest.raises(InputError, match="and 51 more"):
        load_into(create_model("cifar_seresnet8"), {}, what="nothing")


@pytest.mark.parametrize("info", ["{", "[]", "3"])
def test_metadata_that_nobody_can_read(path, info):
    save_file({"a": torch.zeros(1)}, path, {"senet": info})
    with pytest.raises(InputError, match="says in no readable way"):
        read_tensors(path)
