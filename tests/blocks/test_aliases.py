import pytest
import torch
from torch import nn

from senet import SqueezeExcite
from senet.blocks.aliases import ALIASES


def stored(block, names, *, linear):
    state = {}
    for ours, theirs in zip(("fc1", "fc2"), names, strict=True):
        weight = getattr(block, ours).weight
        state[f"{theirs}.weight"] = weight.flatten(1) if linear else weight
        state[f"{theirs}.bias"] = getattr(block, ours).bias
    return state


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("names", [*ALIASES, ("fc1", "fc2")])
def test_loads_as_others_keep_it(names, linear):
    one, other = SqueezeExcite(32, reduction=4), SqueezeExcite(32, reduction=4)
    other.load_state_dict(stored(one, names, linear=linear), strict=True)
    x = torch.randn(2, 32, 5, 5)
    assert torch.equal(one(x), other(x))


def test_loads_inside_a_network_and_changes_nothing_given():
    net = nn.Sequential(SqueezeExcite(32), SqueezeExcite(32))
    state = {f"{i}.{key}": value for i in range(2) for key, value in stored(net[i], ALIASES[0], linear=True).items()}
    before = set(state)
    net.load_state_dict(state, strict=True)
    assert set(state) == before


@pytest.mark.parametrize("axes", [1, 3])
def test_loads_what_networks_of_sequences_and_volumes_keep(axes):
    one, other = SqueezeExcite(32, reduction=4), SqueezeExcite(32, reduction=4)
    state = {
        key: value.reshape(*value.shape[:2], *(1,) * axes) if value.ndim == 4 else value
        for key, value in stored(one, ALIASES[0], linear=False).items()
    }
    other.load_state_dict(state, strict=True)
    x = torch.randn(2, 32, *(5,) * axes)
    assert torch.equal(one(x), other(x))


def test_a_convolution_with_neighbours_is_not_taken_for_one_without():
    block = SqueezeExcite(32, reduction=4)
    state = {**block.state_dict(), "fc1.weight": torch.zeros(8, 32, 3)}
    with pytest.raises(RuntimeError, match=r"size mismatch for fc1\.weight"):
        block.load_state_dict(state)


def test_what_is_missing_is_still_missing():
    block = SqueezeExcite(32)
    state = stored(block, ALIASES[0], linear=False)
    del state["conv_expand.bias"]
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"fc2.bias\""):
        block.load_state_dict(state)


def test_timms_and_torchvisions_modules_load():
    import timm.layers
    import timm.models._efficientnet_blocks as efficientnet
    import torchvision

    x = torch.randn(2, 64, 7, 7)
    for theirs in (
        timm.layers.SEModule(64, rd_channels=8),
        efficientnet.SqueezeExcite(64, rd_channels=8),
        torchvision.ops.SqueezeExcitation(64, 8),
    ):
        ours = SqueezeExcite(64, hidden_channels=8)
        ours.load_state_dict(theirs.state_dict(), strict=True)
        torch.testing.assert_close(ours(x), theirs(x))
