import os

import pytest
import timm
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from senet.errors import InputError
from senet.models import create_model
from senet.models.weights.caffe import PREPROCESSING, ilsvrc2012_synsets
from senet.models.weights.convert import Converted, convert
from senet.models.weights.files import read_tensors, write_tensors
from senet.models.weights.layouts import from_ours
from senet.models.weights.loading import load_weights
from senet.models.weights.preprocessing import Preprocessing
from senet.options import build, to_plain
from senet.recipes import get_recipe


def no_file_but(folder, *names):
    assert sorted(os.listdir(folder)) == sorted(names)


def agree(a, b, size=64):
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(a.eval()(x), b.eval()(x))


def test_from_torchvision_and_back(tmp_path, randomise):
    theirs = randomise(torchvision.models.mobilenet_v3_small(num_classes=7))
    torch.save({"model": theirs.state_dict(), "epoch": 600}, tmp_path / "w.pth")
    done = convert(
        tmp_path / "w.pth", tmp_path / "ours.safetensors", "mobilenetv3_small_100", options={"norm_eps": 1e-3}
    )
    assert done == Converted(
        "mobilenetv3_small_100", "torchvision", "senet", len(theirs.state_dict()), (), ("entry 'model'",), (), ""
    )
    tensors, info = read_tensors(tmp_path / "ours.safetensors")
    assert info == {
        "model": "mobilenetv3_small_100",
        "options": {"num_classes": 7, "in_chans": 3, "norm_eps": 1e-3},
        "classes": None,
        "preprocessing": None,
        "source": {"file": "w.pth", "layout": "torchvision", "taken": ["entry 'model'"]},
    }
    ours = create_model(info["model"], **info["options"])
    ours.load_state_dict(tensors)
    agree(ours, theirs)

    done = convert(tmp_path / "ours.safetensors", tmp_path / "back.safetensors", to="torchvision")
    assert (done.model, done.layout, done.to) == ("mobilenetv3_small_100", "senet", "torchvision")
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(back[key], value) for key, value in theirs.state_dict().items())
    with safe_open(tmp_path / "back.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_what_timm_loads(tmp_path, randomise):
    ours = randomise(create_model("efficientnet_b0", num_classes=5))
    save_file(ours.state_dict(), tmp_path / "ours.safetensors")
    convert(tmp_path / "ours.safetensors", tmp_path / "timm.safetensors", "efficientnet_b0", to="timm")
    theirs = timm.create_model("efficientnet_b0", num_classes=5, checkpoint_path=str(tmp_path / "timm.safetensors"))
    agree(ours, theirs)


@pytest.fixture
def few(monkeypatch):
    """Not all of our networks, so that trying each does not take long."""
    names = [
        "cifar_seresnet8",
        "efficientnet_b0",
        "resnet50",
        "seresnext50_32x4d",
        "seresnext50_32x4d_caffe",
        "vgg11_bn",
    ]
    monkeypatch.setattr("senet.models.weights.convert.list_models", lambda: names)


@pytest.mark.usefixtures("few")
def test_the_network_is_found_where_only_one_fits(tmp_path):
    with torch.device("meta"):
        legacy = timm.create_model("legacy_seresnext50_32x4d", num_classes=5, in_chans=4)
    save_file({k: torch.zeros(v.shape) for k, v in legacy.state_dict().items()}, tmp_path / "w.safetensors")
    done = convert(tmp_path / "w.safetensors", tmp_path / "ours.safetensors")
    assert (done.model, done.layout) == ("seresnext50_32x4d_caffe", "timm-legacy")
    assert read_tensors(tmp_path / "ours.safetensors")[1]["options"] == {"num_classes": 5, "in_chans": 4}


def test_several_networks_that_fit_are_named(tmp_path):
    save_file(create_model("resnet50").state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"the tensors fit resnet50, resnet50_caffe, which differ in what no tensor"):
        convert(tmp_path / "w.safetensors", tmp_path / "ours.safetensors")
    no_file_but(tmp_path, "w.safetensors")


@pytest.mark.usefixtures("few")
def test_no_network_fits(tmp_path):
    save_file({"a.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"w\.safetensors: the tensors fit no network with its own options"):
        convert(tmp_path / "w.safetensors", tmp_path / "ours.safetensors")
    no_file_but(tmp_path, "w.safetensors")


def test_what_no_tensor_shows_is_said(tmp_path):
    net = create_model("seresnet18", attn_options={"rounding": "paper"})
    save_file(from_ours(net.state_dict(), "pytorchcv", net), tmp_path / "w.safetensors")
    options = {"attn_options": {"rounding": "paper"}}
    done = convert(tmp_path / "w.safetensors", tmp_path / "ours.safetensors", "seresnet18", options=options)
    assert "have stride_in=1x1, those whose names end in b" in done.doubt
    same = create_model("seresnet18", **options)
    assert load_weights(same, tmp_path / "ours.safetensors").layout == "senet"
    assert torch.equal(same.layer3[0].se.fc2.bias, net.layer3[0].se.fc2.bias)


def test_modules_for_training_only_are_left_out(tmp_path):
    save_file(torchvision.models.inception_v3(init_weights=False).state_dict(), tmp_path / "w.safetensors")
    done = convert(tmp_path / "w.safetensors", tmp_path / "ours.safetensors", "inception_v3")
    assert len(done.dropped) == 14
    assert {key.partition(".")[0] for key in done.dropped} == {"AuxLogits"}
    assert not any(key.startswith("Aux") for key in read_tensors(tmp_path / "ours.safetensors")[0])


def test_a_network_without_classifier(tmp_path):
    save_file(create_model("cifar_seresnet8", num_classes=0).state_dict(), tmp_path / "w.safetensors")
    convert(tmp_path / "w.safetensors", tmp_path / "ours.safetensors", "cifar_seresnet8")
    assert read_tensors(tmp_path / "ours.safetensors")[1]["options"] == {"num_classes": 0, "in_chans": 3}


def test_the_weights_of_a_run_keep_what_they_say(tmp_path):
    net = create_model("cifar_seresnet8", num_classes=2, in_chans=1)
    recipe = to_plain(get_recipe("cifar.seresnet8"))
    write_tensors(tmp_path / "run.safetensors", net.state_dict(), {"recipe": recipe, "classes": ["a", "b"]})
    convert(tmp_path / "run.safetensors", tmp_path / "ours.safetensors")
    _, info = read_tensors(tmp_path / "ours.safetensors")
    assert (info["model"], info["classes"], info["recipe"]) == ("cifar_seresnet8", ["a", "b"], recipe)
    with pytest.raises(InputError, match=r"of 'cifar_seresnet8', another network: attn=se instead of None"):
        convert(tmp_path / "run.safetensors", tmp_path / "other.safetensors", "cifar_resnet8")


def test_the_authors_file(tmp_path, monkeypatch):
    """Reading one is test_caffe's; here a reader and a renamer stand in for theirs."""
    net = create_model("seresnet50_caffe")
    monkeypatch.setattr("senet.models.weights.convert.read_caffe", lambda path: {"path": path})
    monkeypatch.setattr("senet.models.weights.convert.from_caffe", lambda layers, name: {**net.state_dict()})
    done = convert(tmp_path / "SE-ResNet-50.caffemodel", tmp_path / "ours.safetensors", "seresnet50_caffe")
    assert (done.layout, done.doubt) == ("caffe", "")
    tensors, info = read_tensors(tmp_path / "ours.safetensors")
    assert torch.equal(tensors["fc.weight"], net.fc.weight)
    assert build(Preprocessing, info["preprocessing"], what="it") == PREPROCESSING
    assert info["classes"] == sorted(ilsvrc2012_synsets())
    assert info["classes"][0] == "n01440764"
    assert info["source"] == {"file": "SE-ResNet-50.caffemodel", "layout": "caffe", "taken": []}
    with pytest.raises(InputError, match="stride_in=1x1 instead of 3x3"):
        convert(
            tmp_path / "SE-ResNet-50.caffemodel",
            tmp_path / "x.safetensors",
            "seresnet50_caffe",
            options={"stride_in": "3x3"},
        )
    with pytest.raises(InputError, match="does not say which network it is of; name it"):
        convert(tmp_path / "SE-ResNet-50.caffemodel", tmp_path / "x.safetensors")
    no_file_but(tmp_path, "ours.safetensors")


def test_tensors_that_are_one(tmp_path):
    state = create_model("cifar_seresnet8").state_dict()
    one = torch.tensor(5)
    state |= {key: one for key in state if key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "w.pth")
    convert(tmp_path / "w.pth", tmp_path / "ours.safetensors", "cifar_seresnet8")
    assert load_file(tmp_path / "ours.safetensors")["layer3.0.bn2.num_batches_tracked"] == 5


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"target": "x.pth"}, r"x\.pth ends in '\.pth'; accepted: '\.safetensors'"),
        ({"to": "tim"}, "no layout is called 'tim'; did you mean 'timm'"),
        ({"layout": "tim"}, "no layout is called 'tim'"),
        ({"to": "torchvision"}, "has no place for layer1.0.se"),
        ({"to": "timm-legacy"}, "have unit=bottleneck"),
        ({"name": "resnet34"}, "missing"),
        ({"name": "resnet"}, "no model is called 'resnet'"),
        ({"name": "vgg11_bn"}, "names of no layout of this network"),
        ({"options": {"atn": "se"}}, "has no option 'atn'; did you mean 'attn'"),
        ({"options": {"attn": "eca"}}, r"missing \(layer1\.0\.se\.conv\.weight"),
        ({"options": {"num_classes": 10}}, r"fc\.weight \[1000, 512\] instead of \[10, 512\]"),
        ({"entry": "ema"}, "has no entries"),
        ({"source": "absent.pth"}, "no such file"),
        ({"source": "absent.caffemodel"}, "cannot read"),
        ({"source": "cut.safetensors"}, "is no safetensors file, or is cut off"),
        ({"source": "cut.pth"}, "is cut off: it begins as an archive of torch.save does"),
        ({"source": "absent.caffemodel", "entry": "model"}, "a file of Caffe, which has no entries; leave it out"),
    ],
)
def test_what_is_refused_writes_nothing(tmp_path, changes, told):
    save_file(create_model("seresnet18").state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:-100])
    torch.save({"a": torch.zeros(1000)}, tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:-1000])
    arguments = {"source": "w.safetensors", "target": "x.safetensors", "name": "seresnet18", **changes}
    source, target = (tmp_path / arguments.pop(which) for which in ("source", "target"))
    with pytest.raises(InputError, match=told) as refused:
        convert(source, target, arguments.pop("name"), **arguments)
    assert "\n" not in str(refused.value)
    no_file_but(tmp_path, "w.safetensors", "cut.safetensors", "cut.pth")
