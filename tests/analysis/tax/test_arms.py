from __future__ import annotations

import pytest
import torch
from torch import nn

from senet.analysis.tax import arms
from senet.analysis.tax.arms import WAYS, Setting, batch_for, chosen_ways, loss_of, prepare, twin_of
from senet.errors import InputError
from senet.models import create_model
from senet.surgery.gating.strip import strip
from senet.surgery.graph.install import Rewritten


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model("cifar_seresnet8")


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(arms.importlib.util, "find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dtype": "float8"}, "dtype is 'float8'; known: bfloat16, float16, float32|did you mean"),
        ({"layout": "chanels-last"}, "layout is 'chanels-last'; did you mean 'channels-last'"),
        ({"batch": 0}, "batch is 0; accepted: 1 or more"),
        ({"size": -1}, "size is -1; accepted: 1 or more"),
        ({"device": "meta"}, "device is 'meta', where nothing is computed"),
        ({"device": "gpu"}, "device is 'gpu', which cannot be used here"),
    ],
)
def test_settings_are_checked(fields, said):
    with pytest.raises(InputError, match=said):
        Setting(**fields)


def test_ways_that_cannot_be_had_are_left_out_or_refused(nothing_installed):
    ways, left_out = chosen_ways(None, Setting())
    assert ways == ["eager", "compile", "fused", "fused+compile"]
    assert dict(left_out)["folded"] == "it is for inference"
    ways, left_out = chosen_ways(None, Setting(train=False))
    assert ways == ["eager", "compile", "fused", "fused+compile", "folded", "folded+compile"]
    assert dict(left_out)["openvino"] == "openvino is not installed"
    with pytest.raises(InputError, match="'folded' cannot be had: it is for inference"):
        chosen_ways(["eager", "folded"], Setting())
    with pytest.raises(InputError, match="'onnxruntime' cannot be had: onnx, onnxscript, onnxruntime is not installed"):
        chosen_ways(["onnxruntime"], Setting(train=False))
    with pytest.raises(InputError, match="no way is called 'fuse'; did you mean 'fused'"):
        chosen_ways(["fuse"], Setting())


def test_other_runtimes_are_for_float32_on_cpus(monkeypatch):
    monkeypatch.setattr(arms.importlib.util, "find_spec", lambda name: name)
    assert "onnxruntime" in chosen_ways(None, Setting(train=False))[0]
    left_out = dict(chosen_ways(None, Setting(train=False, dtype="bfloat16"))[1])
    assert left_out["openvino"] == left_out["onnxruntime"] == "it is compared on the CPU in float32 alone"


def test_twins_are_prepared_as_their_users_do():
    assert {way: twin_of(way) for way in ("compile", "fused", "fused+compile", "folded+compile")} == {
        "compile": "compile",
        "fused": "eager",
        "fused+compile": "compile",
        "folded+compile": "compile",
    }
    assert all(twin_of(twin_of(way)) == twin_of(way) for way in WAYS)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_of_training_leaves_the_weights_and_gives_gradients(model, dtype):
    arm = prepare(model, "eager", Setting(batch=2, size=16, dtype=dtype), gated=True)
    before = [p.clone() for p in arm.module.parameters()]
    arm.step()
    arm.step()
    assert all(torch.equal(a, b) for a, b in zip(before, arm.module.parameters(), strict=True))
    assert all(p.grad.dtype == torch.float32 for p in arm.module.parameters())
    assert arm.module.fc.weight.grad.abs().sum() > 0
    assert arm.module is not model
    assert all(p.grad is None for p in model.parameters())


def test_inference_is_in_the_weights_dtype_and_layout(model):
    setting = Setting(train=False, batch=2, size=16, dtype="bfloat16", layout="channels-last")
    arm = prepare(model, "eager", setting, gated=True)
    x, _ = batch_for(arm.module, setting)
    assert x.dtype == torch.bfloat16
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert arm.step().dtype == torch.bfloat16
    assert not arm.module.training


@pytest.mark.parametrize("way", ["eager", "fused", "folded"])
def test_every_way_gives_the_same_outputs(model, way):
    setting = Setting(train=False, batch=2, size=16)
    x, _ = batch_for(model, setting)
    wanted = model.eval()(x)
    arm = prepare(model, way, setting, gated=True)
    torch.testing.assert_close(arm.step(), wanted, rtol=1e-4, atol=1e-5)
    assert arm.countable
    rewritten = [m.plain for m in arm.module.modules() if isinstance(m, Rewritten)]
    assert set(rewritten) == {"eager": set(), "fused": {False}, "folded": {True}}[way]


def test_the_twin_is_fused_too_where_it_can_be(model):
    setting = Setting(batch=2, size=16)
    twin = prepare(strip(model), "fused", setting, gated=False)
    assert any(isinstance(m, Rewritten) for m in twin.module.modules())
    bare = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU())
    assert prepare(bare, "fused", setting, gated=False) is None
    with pytest.raises(InputError, match="nothing in Sequential can be fused"):
        prepare(bare, "fused", setting, gated=True)


def test_the_loss_of_what_is_no_classifier():
    x, labels = torch.ones(2, 3, 4, 4), torch.tensor([5, 6])
    outputs = {"map": x * 2, "scores": torch.zeros(2, 4)}
    loss = loss_of(lambda _: outputs, x, labels, Setting())
    assert float(loss) == pytest.approx(4 + torch.tensor(4.0).log().item())


def test_a_network_of_no_images():
    with pytest.raises(InputError, match="Linear has no Conv2d"):
        batch_for(nn.Linear(2, 2), Setting())
