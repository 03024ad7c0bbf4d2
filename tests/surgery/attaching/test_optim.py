from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import senet
from senet.errors import InputError


def network() -> nn.Module:
    return senet.create_model("cifar_resnet20", num_classes=4)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.randn(4, 3, 16, 16)).square().sum().backward()
    optimizer.step()


def in_two_groups(model: nn.Module) -> list[dict]:
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    return [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": vectors, "weight_decay": 0.0},
    ]


def state_of(optimizer: torch.optim.Optimizer) -> dict[Tensor, dict]:
    return {p: copy.deepcopy(state) for p, state in optimizer.state.items()}


@pytest.mark.parametrize(
    "make",
    [
        lambda model: torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
        lambda model: torch.optim.AdamW(in_two_groups(model), lr=0.01),
    ],
    ids=["sgd", "adamw"],
)
def test_an_optimizer_made_before_trains_everything(make):
    model = network()
    optimizer = make(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)
    step(model, optimizer)
    schedule.step()
    before = state_of(optimizer)
    senet.attach(model, options={"reduction": 2}, optimizer=optimizer)
    assert set(optimizer.state) == set(before)
    for p, state in before.items():
        assert all(torch.equal(torch.as_tensor(state[key]), torch.as_tensor(optimizer.state[p][key])) for key in state)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(set(held)) == len(list(model.parameters()))
    assert set(held) == set(model.parameters())
    values = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(3):  # a block that is the identity learns its last layer first
        step(model, optimizer)
        schedule.step()
    assert [name for name, p in model.named_parameters() if torch.equal(p, values[name])] == []
    assert {group["lr"] for group in optimizer.param_groups} == {0.01 * 0.5**4}


def test_vectors_go_where_vectors_are():
    model = network()
    optimizer = torch.optim.AdamW(in_two_groups(model))
    senet.attach(model, optimizer=optimizer)
    assert all(p.ndim > 1 for p in optimizer.param_groups[0]["params"])
    assert all(p.ndim == 1 for p in optimizer.param_groups[1]["params"])


def test_new_parameters_join_their_neighbours():
    """As many groups as stages, as for learning rates by depth."""
    model = network()
    names = ["conv1", "bn1", "layer1", "layer2", "layer3", "fc"]
    groups = [{"params": list(model.get_submodule(name).parameters())} for name in names]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    senet.attach(model, optimizer=optimizer)
    for name, group in zip(names, optimizer.param_groups, strict=True):
        assert set(group["params"]) == set(model.get_submodule(name).parameters())


def test_names_of_parameters_join_too():
    model = network()
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1)
    senet.attach(model, optimizer=optimizer)
    (group,) = optimizer.param_groups
    assert len(group["param_names"]) == len(group["params"])
    assert "layer1.0.bn2.se.fc1.weight" in group["param_names"]
    names = {p: name for name, p in model.named_parameters()}
    new = [(p, n) for p, n in zip(group["params"], group["param_names"], strict=True) if ".se." in n]
    assert all(names[p] == name for p, name in new)


def test_where_only_the_head_is_trained_blocks_join_the_head():
    model = network()
    optimizer = torch.optim.SGD(model.fc.parameters(), lr=0.1)
    senet.attach(model, where="layer3", optimizer=optimizer)
    (group,) = optimizer.param_groups
    assert set(group["params"]) == {*model.fc.parameters(), *model.layer3.se.parameters()}


def test_detach_takes_them_out_with_their_state():
    model = network()
    optimizer = torch.optim.SGD(model.named_parameters(), lr=0.1, momentum=0.9)
    before = [{**group, "params": list(group["params"])} for group in optimizer.param_groups]
    names = list(optimizer.param_groups[0]["param_names"])
    senet.attach(model, optimizer=optimizer)
    step(model, optimizer)
    senet.detach(model, optimizer=optimizer)
    (group,) = optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in before[0]["params"]]
    assert group["param_names"] == names
    assert set(optimizer.state) == set(model.parameters())
    step(model, optimizer)


def test_the_optimizer_of_another_model_is_refused_and_nothing_is_changed():
    model, other = network(), network()
    keys = list(model.state_dict())
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    with pytest.raises(InputError, match="the optimizer trains no parameter of the model"):
        senet.attach(model, optimizer=optimizer)
    assert list(model.state_dict()) == keys
    assert len(optimizer.param_groups[0]["params"]) == len(list(other.parameters()))
    with pytest.raises(InputError, match="no blocks attached"):
        senet.report(model)


def test_lbfgs_is_refused_and_left_alone():
    model = network()
    optimizer = torch.optim.LBFGS(model.parameters())
    with pytest.raises(InputError, match=r"^LBFGS keeps all parameters as one vector, .*; make a new one$"):
        senet.attach(model, optimizer=optimizer)
    senet.attach(model)
    with pytest.raises(InputError, match=r"^LBFGS keeps all parameters as one vector"):
        senet.detach(model, optimizer=optimizer)
    senet.detach(model)
