from __future__ import annotations

import copy

import pytest
import torch

from senet.errors import InputError
from senet.models import create_model

SMALL = ["seresnet18", "cifar_seresnet8", "cifar_sepreresnet110"]


def small(name, **options):
    options = {"depths": (1, 1, 1), **options} if name == "cifar_sepreresnet110" else options
    return create_model(name, **options).eval()


@pytest.mark.parametrize("name", ["resnet18", "seresnet50", "seresnext50_32x4d"])
def test_information_is_timms(name):
    import timm

    with torch.device("meta"):
        theirs = timm.create_model(name, features_only=True)
        ours = create_model(name, features_only=True)
    expected = [{key: info[key] for key in ("num_chs", "reduction", "module")} for info in theirs.feature_info]
    assert ours.feature_info == expected


def test_maps_are_timms(randomise):
    import timm

    theirs = randomise(timm.create_model("seresnet18", features_only=True)).eval()
    ours = create_model("seresnet18", features_only=True).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(1, 3, 64, 64)
    for one, other in zip(ours(x), theirs(x), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("size", [28, 32, 33])
@pytest.mark.parametrize("name", SMALL)
def test_maps_are_what_the_network_computes(name, size, randomise):
    net = randomise(small(name))
    features = small(name, features_only=True)
    state = net.state_dict()
    assert set(state) - set(features.state_dict()) == {"fc.weight", "fc.bias"}
    features.load_state_dict({key: state[key] for key in features.state_dict()}, strict=True)
    seen = {}
    for info in net.feature_info:
        net.get_submodule(info["module"]).register_forward_hook(
            lambda module, args, output, key=info["module"]: seen.update({key: output.clone()})
        )
    x = torch.randn(2, 3, size, size)
    net(x)
    maps = features(x)
    assert len(maps) == len(features.feature_info) == len(seen)
    for info, result in zip(features.feature_info, maps, strict=True):
        torch.testing.assert_close(result, seen[info["module"]])
        side = -(-size // info["reduction"])
        assert result.shape == (2, info["num_chs"], side, side)


@pytest.mark.parametrize("indices", [(0,), (1,), (3,), (0, 2), (1, 2, 3)])
@pytest.mark.parametrize("name", SMALL)
def test_chosen_maps(name, indices, randomise):
    every = randomise(small(name, features_only=True))
    some = small(name, features_only=True, out_indices=indices)
    some.load_state_dict({key: value for key, value in every.state_dict().items() if key in some.state_dict()})
    x = torch.randn(1, 3, 32, 32)
    maps = every(x)
    assert some.feature_info == [every.feature_info[i] for i in indices]
    for i, result in zip(indices, some(x), strict=True):
        assert torch.equal(result, maps[i])


def test_layers_above_the_last_map_are_left_out():
    names = [name for name, _ in create_model("resnet18", features_only=True, out_indices=(0, 2)).named_children()]
    assert names == ["conv1", "bn1", "act1", "maxpool", "layer1", "layer2"]


def test_compiles_and_exports(randomise):
    net = randomise(small("cifar_seresnet8", features_only=True))
    x = torch.randn(2, 3, 16, 16)
    maps = net(x)
    for other in (
        torch.compile(net, fullgraph=True, backend="eager")(x),
        torch.export.export(net, (x,)).module()(x),
    ):
        for one, two in zip(maps, other, strict=True):
            torch.testing.assert_close(one, two)


@pytest.mark.parametrize("indices", [(), (5,), (-6,), (-1, 0), (2, 1), (1, 1)])
def test_refusals(indices):
    with torch.device("meta"), pytest.raises(InputError, match=r"each once, ascending$"):
        create_model("resnet18", features_only=True, out_indices=indices)


def test_levels_in_timms_words():
    net = create_model("seresnet18", features_only=True, out_indices=(-3, -1))
    assert net.feature_info.channels() == [128, 512]
    assert net.feature_info.reduction() == [8, 32]
    assert net.feature_info.module_name() == ["layer2", "layer4"]


@pytest.mark.parametrize("name", ["seresnet18", "efficientnet_b0"])
def test_checkpointing_changes_neither_maps_nor_gradients_nor_statistics(name, randomise):
    plain = randomise(create_model(name, features_only=True)).train()
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing()
    x = torch.randn(2, 3, 64, 64)
    for net in (plain, saving):
        sum(m.square().mean() for m in net(x)).backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
    for one, other in zip(plain.buffers(), saving.buffers(), strict=True):
        assert torch.equal(one, other)
