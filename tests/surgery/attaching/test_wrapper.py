from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from senet.blocks import SqueezeExcite
from senet.surgery.attaching.wrapper import Attached
from senet.surgery.graph.modules import replace


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)), nn.ReLU(), nn.Conv2d(8, 4, 1)
    ).eval()


def wrapped(model: nn.Sequential) -> nn.Sequential:
    """The norm inside and the part around it are wrapped both."""
    inner, outer = model[0][1], model[0]
    replace(
        model,
        {
            inner: Attached(inner, SqueezeExcite(8, hidden_channels=2), "se"),
            outer: Attached(outer, SqueezeExcite(8, hidden_channels=2), "se"),
        },
    )
    return model


BLOCK = [f"{layer}.{part}" for layer in ("fc1", "fc2") for part in ("weight", "bias")]
NEW = [f"0.1.se.{name}" for name in BLOCK] + [f"0.se.{name}" for name in BLOCK]


def test_a_module_that_copies_itself_is_copied_with_its_block():
    model, x = network(), torch.randn(2, 8, 6, 6)
    wrapper = Attached(torch.fx.symbolic_trace(model[2]), SqueezeExcite(4, hidden_channels=2), "se")
    for part in (wrapper, nn.Sequential(wrapper)):
        copied = copy.deepcopy(part)
        assert type(copied) is type(part)
        assert torch.equal(copied(x), part(x))


def test_it_is_the_block_of_the_module():
    model, x = network(), torch.randn(2, 3, 6, 6)
    inner = model[0][1]
    before = model[0](x)
    wrapper = Attached(model[0], SqueezeExcite(8), "se")
    assert torch.equal(wrapper(x), wrapper.se(before))
    assert wrapper.block is wrapper.se
    assert wrapper.module[1] is inner


def test_old_keys_stay_in_their_order_and_new_ones_follow_their_module():
    old = network().state_dict()
    model = wrapped(network())
    keys = list(model.state_dict())
    assert [key for key in keys if key not in NEW] == list(old)
    assert [key for key in keys if key not in old] == NEW
    assert keys.index("0.1.se.fc1.weight") == keys.index("0.1.num_batches_tracked") + 1


def test_versions_of_parts_keep_their_names_too():
    old = network().state_dict()._metadata
    new = wrapped(network()).state_dict()._metadata
    assert {name: new[name] for name in old} == dict(old)
    assert not [name for name in new if "module" in name.split(".")]


def test_checkpoints_from_before_lack_the_blocks_and_nothing_else():
    old, model = network().state_dict(), wrapped(network())
    loaded = model.load_state_dict(old, strict=False)
    assert sorted(loaded.missing_keys) == sorted(NEW)
    assert loaded.unexpected_keys == []
    assert torch.equal(model[0].module[0].weight, old["0.0.weight"])
    assert torch.equal(model[0].module[1].module.running_var, old["0.1.running_var"])
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"0\.1\.se\.fc1\.weight\""):
        model.load_state_dict(old)


def test_what_else_is_missing_or_too_much_is_said_by_its_old_name():
    old, model = network().state_dict(), wrapped(network())
    del old["0.1.bias"]
    loaded = model.load_state_dict({**old, "0.1.foo": torch.zeros(1)}, strict=False)
    assert sorted(loaded.missing_keys) == sorted([*NEW, "0.1.bias"])
    assert loaded.unexpected_keys == ["0.1.foo"]


@pytest.mark.parametrize("assign", [False, True])
def test_new_checkpoints_go_round(assign):
    stored, model, x = wrapped(network()), wrapped(network()), torch.randn(2, 3, 6, 6)
    model.load_state_dict(stored.state_dict(), assign=assign)
    assert torch.equal(model(x), stored(x))


def test_a_wrapper_alone_is_stored_and_loaded():
    wrapper = wrapped(network())[0].module[1]
    other = Attached(nn.BatchNorm2d(8), SqueezeExcite(8, hidden_channels=2), "se")
    other.load_state_dict(wrapper.state_dict())
    assert list(wrapper.state_dict())[:2] == ["weight", "bias"]
    assert torch.equal(other.se.fc1.weight, wrapper.se.fc1.weight)


def test_parts_called_module_are_not_taken_for_its_own():
    inside = nn.Module()
    inside.module = nn.Conv2d(1, 1, 1, bias=False)
    wrapper = Attached(inside, SqueezeExcite(1), "se")
    assert next(iter(wrapper.state_dict())) == "module.weight"
    assert wrapper.load_state_dict(inside.state_dict(), strict=False).unexpected_keys == []


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_stored_and_loaded_like_it(twin_of):
    model, x = wrapped(network()), torch.randn(2, 3, 6, 6)
    twin = twin_of(model)
    assert torch.equal(twin(x), model(x))
    assert list(twin.state_dict()) == list(model.state_dict())
    nn.init.zeros_(twin[0].module[1].se.fc2.weight)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(x), model(x))


def test_attributes_are_those_of_the_module():
    norm = nn.BatchNorm2d(8)
    wrapper = Attached(norm, SqueezeExcite(8), "se")
    assert wrapper.weight is norm.weight
    assert wrapper.num_features == 8
    wrapper.momentum = 0.5
    assert norm.momentum == 0.5
    wrapper.weight = nn.Parameter(torch.zeros(8))
    assert torch.equal(norm.weight, torch.zeros(8))
    assert list(wrapper._parameters) == []
    with pytest.raises(AttributeError, match="nonsense"):
        _ = wrapper.nonsense


def test_its_own_attributes_are_its_own():
    norm = nn.BatchNorm2d(8).eval()
    wrapper = Attached(norm, SqueezeExcite(8), "se")
    assert not wrapper.training
    wrapper.train()
    assert wrapper.training
    assert norm.training
    norm.note = "inside"
    wrapper.note = "set from outside"
    assert norm.note == "set from outside"


def test_it_is_indexed_and_not_iterated_over():
    chain = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU())
    wrapper = Attached(chain, SqueezeExcite(8), "se")
    assert wrapper[0] is chain[0]
    with pytest.raises(TypeError, match="not iterable"):
        list(wrapper)


def test_a_taken_name_is_not_used():
    unit = nn.Sequential()
    unit.se = nn.Conv2d(3, 8, 1)
    wrapper = Attached(unit, SqueezeExcite(8), "se")
    assert wrapper.block_name == "attached_se"
    assert "se.weight" in wrapper.state_dict()
    assert "attached_se.fc1.weight" in wrapper.state_dict()
    wrapper.load_state_dict(wrapper.state_dict())


def test_exchange_finds_all_places():
    shared = nn.Conv2d(3, 3, 1)
    model = nn.Sequential(shared, nn.Sequential(shared))
    new = nn.Identity()
    replace(model, {shared: new})
    assert model[0] is new
    assert model[1][0] is new
