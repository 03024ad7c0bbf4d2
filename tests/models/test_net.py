from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from senet.errors import InputError
from senet.models import create_model, list_models, model_entry
from senet.models.net import DropPath, Net

SMALL = ["seresnet18", "cifar_seresnet8", "sevgg11_bn", "mobilenetv3_small_100", "senet154"]


def small(name, **options):
    if name == "senet154":
        options["depths"] = (1, 1, 1, 1)
    return create_model(name, num_classes=5, **options)


@pytest.mark.parametrize("name", SMALL)
def test_forward_is_features_then_head(name):
    net = small(name).eval()
    x = torch.randn(2, 3, 32, 32)
    maps = net.forward_features(x)
    assert maps.shape[:2] == (2, net.num_features)
    pooled = net.forward_head(maps, pre_logits=True)
    assert pooled.shape == (2, net.head_hidden_size)
    assert torch.equal(net.get_classifier()(pooled), net(x))
    assert torch.equal(net.forward_head(maps), net(x))


@pytest.mark.parametrize("name", SMALL)
def test_reset_classifier(name):
    net = small(name).double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    net.reset_classifier(7)
    assert net.config.num_classes == 7
    assert net(x).shape == (2, 7)
    assert not net.get_classifier().training
    net.reset_classifier(0)
    assert torch.equal(net(x), net.forward_head(net.forward_features(x), pre_logits=True))
    with pytest.raises(InputError, match="num_classes is -1"):
        net.reset_classifier(-1)


@pytest.mark.parametrize("name", SMALL)
def test_checkpointing_changes_neither_results_nor_gradients_nor_statistics(name, randomise):
    drop = {} if "vgg" in name else {"drop_path_rate": 0.3}
    plain = randomise(small(name, drop_rate=0.2, **drop)).train()
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing()
    x = torch.randn(4, 3, 32, 32)
    results = []
    for net in (plain, saving):
        torch.manual_seed(1)
        results.append(net(x))
        results[-1].square().sum().backward()
    assert torch.equal(*results)
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    for one, other in zip(plain.buffers(), saving.buffers(), strict=True):
        assert torch.equal(one, other)


def test_checkpointing_keeps_less(monkeypatch):
    kept = {}
    for enable in (False, True):
        net = small("seresnet18").train()
        net.set_grad_checkpointing(enable)
        total = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, total=total: total.append(t.numel()) or t, lambda t: t):
            net(torch.randn(2, 3, 64, 64))
        kept[enable] = sum(total)
    assert kept[True] < kept[False] / 2


def test_checkpointing_compiles(randomise):
    net = randomise(small("cifar_seresnet8")).train()
    saving = copy.deepcopy(net)
    saving.set_grad_checkpointing()
    x = torch.randn(2, 3, 16, 16)
    torch.compiler.reset()
    y = torch.compile(saving, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(y, net(x))
    y.sum().backward()
    for one, other in zip(net.buffers(), saving.buffers(), strict=True):
        torch.testing.assert_close(one, other)


def test_drop_path_leaves_out_images_and_keeps_the_mean():
    x = torch.ones(4000, 2, 1, 3)
    drop = DropPath(0.25)
    y = drop(x)
    images = sorted({tuple(image.flatten().tolist()) for image in y})
    assert images == [(0.0,) * 6, (images[1][0],) * 6]
    assert images[1][0] == pytest.approx(1 / 0.75)
    assert y.mean().item() == pytest.approx(1, abs=0.03)
    assert drop.eval()(x) is x
    assert DropPath(0.0)(x) is x


def test_dropout_is_before_the_classifier():
    net = small("cifar_seresnet8", drop_rate=0.9).train()
    pooled = net.forward_head(torch.ones(8, net.num_features, 2, 2), pre_logits=True)
    assert set(pooled.flatten().round().tolist()) == {0.0, 10.0}


@pytest.mark.parametrize("name", list_models())
def test_every_network_knows_where_it_comes_from_and_is_what_it_says(name):
    entry = model_entry(name)
    assert issubclass(entry.net, Net)
    assert entry.source
    with torch.device("meta"):
        net = create_model(name).eval()
        maps = net.forward_features(torch.empty(2, 3, entry.size, entry.size))
        assert maps.shape[:2] == (2, net.num_features)
        assert net(torch.empty(2, 3, entry.size, entry.size)).shape == (2, entry.config.num_classes)
    classifier = net.get_classifier()
    assert isinstance(classifier, nn.Linear)
    assert classifier.in_features == net.head_hidden_size


@pytest.mark.parametrize("name", list_models())
def test_every_network_is_a_backbone(name):
    size = model_entry(name).size
    with torch.device("meta"):
        net = create_model(name, features_only=True, in_chans=1).eval()
        maps = net(torch.empty(1, 1, size, size))
    for one, info in zip(maps, net.feature_info, strict=True):
        assert one.shape[1] == info["num_chs"]
        assert abs(one.shape[2] - size / info["reduction"]) <= 4  # Inception's convolutions do not pad
    assert [info["reduction"] for info in net.feature_info] == sorted(info["reduction"] for info in net.feature_info)
