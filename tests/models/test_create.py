from __future__ import annotations

import argparse

import pytest
import torch
from safetensors.torch import save_file

from senet.errors import InputError
from senet.models import create_model
from senet.models.weights.preprocessing import Preprocessing
from senet.models.weights.weight import Published, Weight

TAGS = ("in1k", "in21k", "backbone")


@pytest.fixture
def hub(tmp_path, monkeypatch, randomise):
    """Two seresnet18 on a hub: of 1000 classes, and of 7."""
    states = {}
    for tag, classes in zip(TAGS, (1000, 7, 0), strict=True):
        net = randomise(create_model("seresnet18", num_classes=classes))
        states[tag] = net.state_dict()
        save_file(states[tag], tmp_path / f"{tag}.safetensors")

    def find(name, tag=None):
        published = (Published(preprocessing=Preprocessing()),)
        kinds = dict(zip(TAGS, (1000, 7, 0), strict=True))
        tag = tag or TAGS[0]
        if tag not in kinds:
            raise InputError(f"{name!r} has no pretrained weights called {tag!r}")
        return Weight(model=name, tag=tag, hub="a/b", published=published, trained_on=("x",), num_classes=kinds[tag])

    monkeypatch.setattr("senet.models.create.find_weight", find)
    monkeypatch.setattr("senet.models.create.fetch", lambda weight: tmp_path / f"{weight.tag}.safetensors")
    return states


def assert_holds(net, state, *, but=()):
    for key, value in net.state_dict().items():
        assert torch.equal(value, state[key]) or key in but


def test_fresh_weights_are_nobodys():
    assert create_model("seresnet18").loaded is None


def test_the_default_weights_and_those_of_a_tag(hub):
    net = create_model("seresnet18", pretrained=True)
    assert_holds(net, hub["in1k"])
    assert (net.config.num_classes, net.loaded.layout, net.loaded.dropped) == (1000, "timm", ())
    net = create_model("seresnet18", pretrained="in21k")
    assert_holds(net, hub["in21k"])
    assert net.config.num_classes == 7
    with pytest.raises(InputError, match="no pretrained weights called 'in22k'"):
        create_model("seresnet18", pretrained="in22k")


def test_another_number_of_classes_gets_a_fresh_classifier_and_says_so(hub):
    net = create_model("seresnet18", pretrained=True, num_classes=3)
    head = ("fc.weight", "fc.bias")
    state = net.state_dict()
    for key in head:
        state.pop(key)
    assert all(torch.equal(value, hub["in1k"][key]) for key, value in state.items())
    assert (net.loaded.dropped, net.loaded.missing) == (head, head)
    pooled = create_model("seresnet18", pretrained=True, num_classes=0).eval()
    assert pooled(torch.randn(1, 3, 32, 32)).shape == (1, 512)
    assert create_model("seresnet18", pretrained="backbone").loaded.missing == head


def test_other_channels_adapt_the_first_convolution(hub):
    net = create_model("seresnet18", pretrained=True, in_chans=1)
    torch.testing.assert_close(net.conv1.weight, hub["in1k"]["conv1.weight"].sum(1, keepdim=True))
    assert net.loaded.adapted == ("conv1.weight",)


def test_a_backbone_has_them_too(hub):
    net = create_model("seresnet18", pretrained=True, features_only=True, out_indices=(1,))
    assert torch.equal(net.layer1[0].conv1.weight, hub["in1k"]["layer1.0.conv1.weight"])
    assert net.loaded.layout == "timm"


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_file_whoever_wrote_it(tmp_path, kind, randomise):
    import torchvision

    theirs = randomise(torchvision.models.resnet18(num_classes=5)).eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    ours = create_model("resnet18", pretrained=kind(tmp_path / "theirs.pth"), num_classes=5).eval()
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(x), theirs(x))


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(InputError, match=r"gone\.pth"):
        create_model("resnet18", pretrained=tmp_path / "gone.pth")
    with pytest.raises(InputError, match=r"gone\.pth"):
        create_model("resnet18", pretrained="gone.pth")


def test_a_files_classifier_is_kept(tmp_path):
    ours = create_model("seresnet18", num_classes=5)
    save_file(ours.state_dict(), tmp_path / "five.safetensors")
    net = create_model("seresnet18", pretrained=tmp_path / "five.safetensors")
    assert net.config.num_classes == net.loaded.classes == 5
    assert_holds(net, ours.state_dict())


@pytest.mark.parametrize("channels", [1, 4])
def test_a_files_channels_are_kept(tmp_path, channels):
    ours = create_model("seresnet18", in_chans=channels, num_classes=0)
    save_file(ours.state_dict(), tmp_path / "w.safetensors")
    net = create_model("seresnet18", pretrained=tmp_path / "w.safetensors")
    assert (net.config.in_chans, net.config.num_classes, net.loaded.adapted) == (channels, 1000, ())
    assert net.loaded.missing == ("fc.weight", "fc.bias")
    assert_holds(net, net.state_dict() | ours.state_dict())
    with pytest.raises(InputError, match=f"takes {channels} channels, not 3; give in_chans={channels} "):
        create_model("seresnet18", pretrained=tmp_path / "w.safetensors", in_chans=3)


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint with a network's weights and their average."""
    states = {"state_dict": create_model("cifar_resnet8").state_dict()}
    states["state_dict_ema"] = {key: value + 1 for key, value in states["state_dict"].items()}
    torch.save({"epoch": 3, "args": argparse.Namespace(lr=0.1), **states}, tmp_path / "last.pth.tar")
    return tmp_path / "last.pth.tar", states


def test_one_of_several_entries(checkpoint):
    path, states = checkpoint
    for entry, state in states.items():
        net = create_model("cifar_resnet8", pretrained=path, entry=entry)
        assert_holds(net, state)
        assert net.loaded.taken == (f"entry {entry!r}",)
        assert net.loaded.unread == ("argparse.Namespace",)
    net = create_model("cifar_resnet8", pretrained=str(path), entry="state_dict", features_only=True)
    assert torch.equal(net.conv1.weight, states["state_dict"]["conv1.weight"])
    with pytest.raises(InputError, match=r"name the entry that you want, for example entry='state_dict_ema'"):
        create_model("cifar_resnet8", pretrained=path)
    with pytest.raises(InputError, match=r"entry 'state_dct_ema' is not in the file; did you mean 'state_dict_ema'"):
        create_model("cifar_resnet8", pretrained=path, entry="state_dct_ema")
    with pytest.raises(InputError, match=r"entry 'epoch' holds a value of type int and no tensors by name"):
        create_model("cifar_resnet8", pretrained=path, entry="epoch")
    with pytest.raises(InputError, match=r"entry 'args' holds a pickled object, argparse\.Namespace"):
        create_model("cifar_resnet8", pretrained=path, entry="args")


@pytest.mark.parametrize("pretrained", [False, True, "in1k"])
def test_an_entry_of_no_file(hub, pretrained):
    with pytest.raises(
        InputError, match=f"entry is 'model', which is of a file, and pretrained is {pretrained!r}, which"
    ):
        create_model("seresnet18", pretrained=pretrained, entry="model")


def test_an_entry_of_a_file_without_entries(tmp_path):
    state = create_model("cifar_resnet8").state_dict()
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"is a file of safetensors, which has no entries; leave it out"):
        create_model("cifar_resnet8", pretrained=tmp_path / "w.safetensors", entry="model")
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(
        InputError, match=r"is one state_dict of \d+ tensors without entries, .* leave entry='model' out"
    ):
        create_model("cifar_resnet8", pretrained=tmp_path / "w.pth", entry="model")


def test_a_network_beside_a_loss_in_one_state_dict(tmp_path):
    state = create_model("cifar_resnet8").state_dict()
    mixed = {"criterion.weight": torch.ones(10), **{f"model.{key}": value for key, value in state.items()}}
    torch.save({"state_dict": mixed}, tmp_path / "w.ckpt")
    with pytest.raises(InputError, match=r"names begin with model \(\d+\), criterion \(1\): .* entry='model'"):
        create_model("cifar_resnet8", pretrained=tmp_path / "w.ckpt")
    net = create_model("cifar_resnet8", pretrained=tmp_path / "w.ckpt", entry="model")
    assert_holds(net, state)


def test_a_name_with_a_tag(hub):
    assert_holds(create_model("seresnet18.in21k", pretrained=True), hub["in21k"])
    with pytest.raises(InputError, match="with the tag 'in21k' names weights; give pretrained=True with it"):
        create_model("seresnet18.in21k")
