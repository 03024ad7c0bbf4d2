from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from timm.layers import SEModule
from torch import nn

from senet.blocks import create_block
from senet.errors import InputError
from senet.models import create_model
from senet.surgery.gating.strip import RemovedGate, strip, stripped
from senet.surgery.graph.run import randomise_norms

X = torch.randn(2, 3, 64, 64)


class Inline(nn.Module):
    """A gate written down in a unit's own forward, as tutorials do."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc1, self.fc2 = nn.Linear(8, 2), nn.Linear(2, 8)

    def forward(self, x):
        u = self.bn(self.conv(x))
        n, c, _, _ = u.size()
        s = torch.sigmoid(self.fc2(torch.relu(self.fc1(u.mean((2, 3)))))).view(n, c, 1, 1)
        return torch.relu(u * s.expand_as(u))


class TwoPools(nn.Module):
    """A gate that also sees the maximum: none that surgery reads."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        u = self.conv(x)
        return u * torch.sigmoid(self.fc(u.mean((2, 3), keepdim=True)) + self.fc(u.amax((2, 3), keepdim=True)))


@pytest.mark.parametrize("training", [False, True])
def test_the_twin_of_seresnet50_is_resnet50(training):
    model = timm.create_model("seresnet50").train(training)
    randomise_norms(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    twin, plain = strip(model), timm.create_model("resnet50").train(training)
    plain.load_state_dict(twin.state_dict())
    assert torch.equal(twin(X), plain(X))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert twin.training == training
    assert all(m.training == training for m in twin.modules())


@pytest.mark.parametrize(
    ("ours", "plain", "options"),
    [
        ("cifar_seresnet20", "cifar_resnet20", {}),
        ("cifar_seresnet20", "cifar_resnet20", {"attn": "cbam"}),
        ("cifar_seresnet20", "cifar_resnet20", {"placement": "identity"}),
    ],
)
def test_the_twin_of_ours_is_our_plain_one(ours, plain, options):
    model = create_model(ours, **options)
    twin, other = strip(model), create_model(plain)
    other.load_state_dict(twin.state_dict())
    assert torch.equal(twin(X), other(X))


def test_torchvision_and_where_the_gates_were():
    model = torchvision.models.mobilenet_v3_small()
    twin, gates, left = stripped(model)
    assert [gate.path for gate in gates][:2] == ["features.1.block.1", "features.4.block.2"]
    assert len(gates) == 9
    assert not left
    gone = sum(p.numel() for gate in gates for p in model.get_submodule(gate.path).parameters())
    assert sum(p.numel() for p in twin.parameters()) == sum(p.numel() for p in model.parameters()) - gone
    assert all(isinstance(twin.get_submodule(gate.path), nn.Identity) for gate in gates)


@pytest.mark.parametrize(("wrap", "path"), [(lambda unit: unit, ""), (nn.Sequential, "0")])
def test_a_gate_in_a_forward(wrap, path):
    unit = Inline()
    twin, gates, _ = stripped(wrap(unit))
    assert gates == [RemovedGate(path, like=f"{path}.bn".strip("."))]
    assert torch.equal(twin(X), torch.relu(unit.bn(unit.conv(X))))
    assert {name.split(".")[-2] for name, _ in twin.named_parameters()} == {"conv", "bn"}


def test_a_gate_that_is_used_twice_is_gone_twice():
    gate = SEModule(8)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), gate, nn.ReLU(), gate)
    twin, gates, _ = stripped(model)
    assert [g.path for g in gates] == ["1"]
    assert torch.equal(twin(X), torch.relu(model[0](X)))


def test_what_is_left_in_the_twin_is_said():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), SEModule(3), TwoPools())
    twin, gates, left = stripped(model)
    assert [gate.path for gate in gates] == ["1"]
    assert left == [("2", "the gate sees more of the map than its global average")]
    assert torch.equal(twin(X), model[2](model[0](X)))


def test_a_block_alone_becomes_nothing():
    assert isinstance(strip(create_block("cbam", 8)), nn.Identity)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (timm.create_model("resnet18"), "ResNet has no map that is gated"),
        (nn.Sequential(TwoPools()), r"\(0: the gate sees more of the map than its global average\)"),
    ],
)
def test_networks_without_gates_are_refused(model, said):
    with pytest.raises(InputError, match=said):
        strip(model)
