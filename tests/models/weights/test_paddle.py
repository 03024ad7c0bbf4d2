"""PaddleOCR's classifier of text lines: a file like it written here, and the file itself where its package is."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

import senet
from senet.errors import InputError
from senet.models import create_model
from senet.models.weights.convert import convert
from senet.models.weights.layouts.reading import read_weights
from senet.models.weights.paddle import from_paddle, is_paddle

onnx = pytest.importorskip("onnx")
NAME = "paddle_textline_cls"
BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
DATA = runpy.run_path(str(BENCHMARKS / "textline_data.py"))
THEIRS = runpy.run_path(str(BENCHMARKS / "textline_onnx.py"))
WEIGHTS, PAGE = DATA["WEIGHTS"], DATA["PAGE"]
ITSELF = pytest.mark.skipif(WEIGHTS is None, reason="rapidocr-onnxruntime is not installed, whose file this reads")
PHOTO = pytest.mark.skipif(PAGE is None, reason="scikit-image is not installed, whose photograph this reads")

LAYERS = {"conv1": ("conv_stem", "bn1"), "conv_last": ("conv_head", "bn2")}
for u in range(11):
    LAYERS[f"conv{u + 2}_expand"] = f"blocks.{u}.conv_pw", f"blocks.{u}.bn1"
    LAYERS[f"conv{u + 2}_depthwise"] = f"blocks.{u}.conv_dw", f"blocks.{u}.bn2"
    LAYERS[f"conv{u + 2}_linear"] = f"blocks.{u}.conv_pwl", f"blocks.{u}.bn3"
NORM = {"scale": "weight", "offset": "bias", "mean": "running_mean", "variance": "running_var"}


def as_paddle(state):
    """PaddleOCR's tensors, made of ours."""
    theirs = {"fc_0.w_0": state["classifier.weight"].T, "fc_0.b_0": state["classifier.bias"]}
    for name, (conv, norm) in LAYERS.items():
        theirs[f"{name}_weights"] = state[f"{conv}.weight"]
        theirs |= {f"{name}_bn_{leaf}": state[f"{norm}.{ours}"] for leaf, ours in NORM.items()}
    for u in (0, *range(3, 11)):
        for k in (1, 2):
            theirs[f"conv{u + 2}_se_{k}_weights"] = state[f"blocks.{u}.se.fc{k}.weight"]
            theirs[f"conv{u + 2}_se_{k}_offset"] = state[f"blocks.{u}.se.fc{k}.bias"]
    theirs["conv1_weights"] = theirs["conv1_weights"].flip(1)  # blue, green, red
    return theirs


def write(path, tensors):
    arrays = ((name, tensor.contiguous().numpy()) for name, tensor in tensors.items())
    nodes = [
        onnx.helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(array, name))
        for name, array in arrays
    ]
    path.write_bytes(onnx.helper.make_model(onnx.helper.make_graph(nodes, "net", [], [])).SerializeToString())
    return path


@pytest.fixture
def net(randomise):
    return randomise(create_model(NAME)).eval()


@pytest.fixture
def file(tmp_path, net):
    return write(tmp_path / "cls.onnx", as_paddle(net.state_dict()))


def test_every_tensor_finds_its_place(net, file):
    loaded = create_model(NAME, pretrained=file).eval()
    for key, tensor in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key
    assert (loaded.loaded.layout, loaded.loaded.taken, loaded.loaded.classes) == ("paddle", (), 2)


def test_converts_without_its_name(net, file, tmp_path):
    target = tmp_path / "out.safetensors"
    done = convert(file, target)
    assert (done.model, done.layout, done.tensors) == (NAME, "paddle", len(net.state_dict()))
    info = read_weights(target).info
    assert (info["classes"], info["source"]["layout"]) == (["0", "180"], "paddle")
    x = torch.randn(2, 3, 48, 192)
    assert torch.equal(create_model(NAME, pretrained=target).eval()(x), net(x))


def test_another_head_or_other_channels(file):
    adapted = create_model(NAME, pretrained=file, num_classes=4, in_chans=1)
    assert adapted.loaded.missing == ("classifier.weight", "classifier.bias")
    assert adapted.loaded.adapted == ("conv_stem.weight",)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("mobilenetv3_small_100", {}, "the weights are of 'paddle_textline_cls', a TextLine"),
        (NAME, {"attn": None}, "another network: attn=se instead of None"),
        (NAME, {"attn_options": {"gate": "sigmoid"}}, "another network: attn_options="),
    ],
)
def test_other_networks_are_refused(file, name, options, said):
    with pytest.raises(InputError, match=said):
        create_model(name, pretrained=file, **options)


def test_another_file_is_refused(net, tmp_path):
    tensors = as_paddle(net.state_dict())
    tensors["lstm_0.w_0"] = tensors.pop("conv5_se_1_offset")
    assert is_paddle(tensors)
    with pytest.raises(InputError, match=r"1 missing \(blocks.3.se.fc1.bias\); 1 unknown \(lstm_0.w_0"):
        create_model(NAME, pretrained=write(tmp_path / "cls.onnx", tensors))
    assert not is_paddle(net.state_dict())
    assert from_paddle(tensors)["lstm_0.w_0"] is tensors["lstm_0.w_0"]


# --- the file itself ---


def images():
    """Noise, and real lines of text."""
    noise = torch.randn(8, 3, 48, 192)
    return noise if PAGE is None else torch.cat([noise, DATA["crops"](PAGE)[0][::5]])


@ITSELF
def test_outputs_and_gates_are_onnx_runtimes():
    pytest.importorskip("onnxruntime")
    x = images()
    probabilities, logits, gates = THEIRS["by_runtime"](WEIGHTS, x)
    net = create_model(NAME, pretrained=WEIGHTS).eval()
    with torch.no_grad(), senet.record(net) as recording:
        found = net(x)
    assert found.std() > 1
    np.testing.assert_allclose(found.numpy(), logits, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.softmax(1).numpy(), probabilities, rtol=0, atol=1e-5)
    assert len(gates) == len(recording.gates) == 9
    for theirs, ours in zip(gates, recording.gates.values(), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=2e-5)


@ITSELF
def test_outputs_are_onnxs_own_in_float64():
    x = images()[::5].double()
    wanted = THEIRS["by_definition"](WEIGHTS, x)
    net = create_model(NAME, pretrained=WEIGHTS).double().eval()
    # Its slope of the gate and eps of the norms are 0.2 and 1e-5 in float32.
    np.testing.assert_allclose(net(x).detach().numpy(), wanted, rtol=1e-6, atol=1e-6)


@ITSELF
@PHOTO
def test_tells_lines_that_are_upside_down():
    net = create_model(NAME, pretrained=WEIGHTS).eval()
    x, labels = DATA["crops"](PAGE)
    assert x.shape == (70, 3, 48, 192)
    assert labels.sum() == 35
    assert (net(x).argmax(1) == labels).sum() >= 66


@PHOTO
def test_crops_are_lines():
    x, labels = DATA["crops"](PAGE)
    assert x.abs().amax((1, 2, 3)).max() <= 1
    ink = (x[labels == 0].mean(1) < x[labels == 0].mean(1).amax((1, 2), keepdim=True) - 0.5).double()
    middle, edges = ink[:, 12:36].mean(), torch.cat([ink[:, :4], ink[:, -4:]], 1).mean()
    assert middle > 5 * edges
    left, _ = DATA["crops"](PAGE, part=(0, 0.5))
    right, _ = DATA["crops"](PAGE, part=(0.5, 1))
    assert len(left) + len(right) == len(x)
