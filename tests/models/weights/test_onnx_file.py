"""Files written here with the package onnx, of which only parameters are read."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from senet.errors import InputError
from senet.models.weights.layouts.reading import is_file_name, read_weights
from senet.models.weights.onnx_file import read_onnx

onnx = pytest.importorskip("onnx")
helper, numpy_helper = onnx.helper, onnx.numpy_helper


def constant(name, value):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name))


def file(tmp_path, *nodes, initializer=()):
    graph = helper.make_graph(list(nodes), "net", [], [], initializer)
    path = tmp_path / "net.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def test_reads_initializers_and_constants_of_any_float(tmp_path):
    arrays = {f"p{n}": np.random.default_rng(n).normal(size=(2, 3)).astype(f"float{n}") for n in (16, 32, 64)}
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    nodes = [
        constant("c", np.float32([1, 2])),
        constant("shape", np.int64([1, 2])),
        constant("six", np.float32(6)),
        helper.make_node("Constant", [], ["listed"], value_floats=[1.0, 2.0]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    read = read_onnx(file(tmp_path, *nodes, initializer=tensors))
    assert list(read) == ["p16", "p32", "p64", "c"]
    assert [t.dtype for t in read.values()] == [torch.float16, torch.float32, torch.float64, torch.float32]
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name].numpy(), array)
    read["c"].add_(1)  # its own memory, and not read-only


def test_others_keep_their_names_but_for_a_wrappers(tmp_path):
    tensors = [numpy_helper.from_array(np.zeros(2, np.float32), f"model.{name}") for name in ("a.weight", "b.weight")]
    weights = read_weights(file(tmp_path, initializer=tensors))
    assert (sorted(weights.tensors), weights.info) == (["a.weight", "b.weight"], {})
    assert weights.taken == ("prefix 'model.'",)
    assert is_file_name("net.onnx")


WEIGHT = numpy_helper.from_array(np.zeros((4, 4), np.float32), "w")


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def emptied(path):
    path.write_bytes(b"")


def external(path):
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)


def damaged(path):
    model = onnx.load(path)
    model.graph.initializer[0].raw_data = bytes(60)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut, "is no ONNX file, or is cut off"),
        (emptied, "has no parameters; give"),
        (external, "keeps its weights in another file; export it anew with external_data=False"),
        (damaged, "is damaged: "),
    ],
)
def test_refuses_in_one_line(tmp_path, spoil, said):
    path = file(tmp_path, initializer=[WEIGHT])
    spoil(path)
    with pytest.raises(InputError, match=said) as caught:
        read_onnx(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_folder_or_an_entry_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        read_onnx(tmp_path)
    with pytest.raises(InputError, match=r"entry is 'model', but .* is a file of onnx, which has no entries"):
        read_weights(file(tmp_path, initializer=[WEIGHT]), entry="model")


def test_says_what_to_install(tmp_path, monkeypatch):
    path = file(tmp_path, initializer=[WEIGHT])
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"needs onnx; pip install 'senet\[export\]'"):
        read_onnx(path)
