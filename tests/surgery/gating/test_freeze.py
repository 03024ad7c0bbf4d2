from __future__ import annotations

import copy

import pytest
import timm
import torch
import torchvision
from pytorchcv.model_provider import get_model
from timm.layers import SEModule
from torch import nn

from senet.blocks import BLOCKS, Recalibrate, create_block
from senet.errors import InputError
from senet.models import create_model
from senet.surgery import fold, fuse, report
from senet.surgery.gating.find import find_gates
from senet.surgery.gating.freeze import freeze_gates, frozen
from senet.surgery.gating.tap import listen
from senet.surgery.graph.run import randomise_norms

X = torch.randn(2, 3, 64, 64, dtype=torch.float64)


class Inline(nn.Module):
    """A gate written down in a unit's own forward, as tutorials do; two of them if asked for."""

    def __init__(self, gates=1):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.fc1, self.fc2 = nn.Linear(8, 2), nn.Linear(2, 8)
        self.gates = gates

    def forward(self, x):
        u = self.bn(self.conv(x))
        for _ in range(self.gates):
            n, c, _, _ = u.size()
            s = torch.sigmoid(self.fc2(torch.relu(self.fc1(u.mean((2, 3)))))).view(n, c, 1, 1)
            u = torch.relu(u * s.expand_as(u))
        return u


def prepared(model):
    """In float64, with norms that hide nothing, in evaluation."""
    randomise_norms(model)
    return model.double().eval()


def drawn(model, x, *, low=0.1, high=0.9):
    """Random values for all gates of a model, and what it computes with its gates set to them."""
    sites, values = find_gates(model, (x,)), {}

    def hear(name, gate):
        values[name] = torch.rand(gate.shape[1]).double() * (high - low) + low
        return values[name].view(1, -1, *(1,) * (gate.ndim - 2)).expand_as(gate).clone()

    with listen(sites, hear), torch.no_grad():
        return values, model(x)


def error(got, wanted):
    return float(((got - wanted).abs().max() / wanted.abs().max()).detach())


NETWORKS = {
    "timm test_resnet": lambda: timm.create_model("test_resnet", block_args={"attn_layer": "se"}),
    "timm test_byobnet": lambda: timm.create_model("test_byobnet"),
    "torchvision mobilenet_v3_small": lambda: torchvision.models.mobilenet_v3_small().features[:6],
    "inline": Inline,
    "inline in a Sequential": lambda: nn.Sequential(nn.Conv2d(3, 3, 1), Inline()),
    "ours": lambda: create_model("cifar_seresnet20"),
    "ours before the branch": lambda: create_model("cifar_seresnet20", placement="pre"),
    "ours, mobile": lambda: create_model("mobilenetv3_small_100"),
    "ours, cbam": lambda: create_model("cifar_seresnet20", attn="cbam"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_held_gates_are_folded_exactly(name):
    model = prepared(NETWORKS[name]())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    values, wanted = drawn(model, X)
    constant, gates = frozen(model, values, example=(X,))
    with torch.no_grad():
        assert error(constant(X), wanted) <= 1e-10
    assert [gate.site for gate in gates] == list(values)
    assert all(gate.folded for gate in gates)
    gone = sum(gate.parameters for gate in gates)
    assert gone > 0
    assert sum(p.numel() for p in constant.parameters()) == sum(p.numel() for p in model.parameters()) - gone
    assert not any(isinstance(m, Recalibrate) for m in constant.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_pytorchcv():
    model, x = prepared(get_model("seresnet10").features.stage1), torch.randn(2, 64, 8, 8, dtype=torch.float64)
    values, wanted = drawn(model, x)
    constant, gates = frozen(model, values, example=(x,))
    assert error(constant(x), wanted) <= 1e-10
    assert all(gate.folded for gate in gates)


GATING = [name for name in BLOCKS if any(isinstance(m, Recalibrate) for m in create_block(name, 16).modules())]


@pytest.mark.parametrize("name", sorted({*GATING} - {"sk"}))
def test_every_block_of_ours(name):
    model = prepared(nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), create_block(name, 16), nn.ReLU()))
    x = X[..., :12, :12]
    values, wanted = drawn(model, x)
    constant, _ = frozen(model, values, example=(x,))
    with torch.no_grad():
        assert error(constant(x), wanted) <= 1e-10


def test_a_block_whose_surroundings_need_it_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), create_block("sk", 16))
    with pytest.raises(InputError, match=r"without the gates 1\.select the network does not run"):
        freeze_gates(model, {"1.select": torch.ones(32)}, example=(X.float(),))


@pytest.mark.parametrize("low", [0.1, -0.9])
@pytest.mark.parametrize("training", [True, False])
def test_some_gates_held_in_both_modes(low, training):
    model = prepared(create_model("cifar_seresnet20"))
    values, _ = drawn(model, X, low=low)
    some = {name: value for name, value in values.items() if name.startswith("layer2")}
    constant = freeze_gates(model.train(training), some)
    assert all(m.training == training for m in constant.modules())
    sites = [site for site in find_gates(model) if site.name in some]
    with listen(sites, lambda name, gate: some[name].view(1, -1, 1, 1).expand_as(gate)):
        wanted = model(X)
    got = constant(X)
    assert error(got, wanted) <= 1e-10
    for network, out in ((model, wanted), (constant, got)):
        network.zero_grad()
        out.square().sum().backward()
    assert error(constant.conv1.weight.grad, model.conv1.weight.grad) <= 1e-8
    assert "layer1.0.se.fc1.weight" in constant.state_dict()
    assert type(constant.layer2[0].se) is nn.Identity


@pytest.mark.parametrize("placement", ["post", "identity"])
def test_where_no_layer_can_take_it_a_scale_stays(placement):
    model = prepared(create_model("cifar_seresnet20", placement=placement))
    values, wanted = drawn(model, X)
    constant, gates = frozen(model, values)
    assert error(constant(X), wanted) <= 1e-10
    assert not any(gate.folded for gate in gates)
    assert torch.equal(constant.layer1[0].se.scale, values["layer1.0.se"])
    left = dict(report(freeze_gates(model, values)).left)
    assert left.keys() == values.keys()
    assert "nor does a scale pass through it" in left["layer1.0.se"]


@pytest.mark.parametrize(
    ("layers", "folded"),
    [
        ([nn.Conv2d(3, 8, 3, groups=1, bias=False), nn.Identity()], "folded into 0"),
        ([nn.Conv2d(3, 8, 3), nn.ReLU()], "folded into 0"),
        ([nn.Conv2d(3, 8, 3), nn.LeakyReLU(0.2), nn.MaxPool2d(2)], "folded into 0"),
        ([nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8)], None),
        ([nn.Conv2d(3, 8, 3), nn.SiLU()], None),
        ([nn.Conv2d(3, 8, 3), nn.ReLU6()], None),
        ([nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=False)], None),
    ],
)
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_layers_before_and_convolutions_after(layers, folded, groups):
    after = nn.Conv2d(8, 16, 3, groups=groups)
    rest = [create_block("se", 8), nn.Identity(), nn.AvgPool2d(2), after]
    model = prepared(copy.deepcopy(nn.Sequential(*layers, *rest)))
    values, wanted = drawn(model, X)
    constant, (gate,) = frozen(model, values)
    assert error(constant(X), wanted) <= 1e-10
    assert gate.became == (folded or f"folded into {len(layers) + 3}")


def test_negative_values_do_not_pass_a_relu():
    model = prepared(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), create_block("se", 8, {"gate": "tanh"}), nn.ReLU()))
    values, wanted = drawn(model, X, low=-0.9)
    constant, (gate,) = frozen(model, values)
    assert error(constant(X), wanted) <= 1e-10
    assert not gate.folded
    assert torch.equal(constant[2].scale, values["2"])


def test_a_standardised_weight_takes_no_scale():
    model = timm.create_model("test_nfnet")
    for module in model.modules():
        if hasattr(module, "gain"):
            nn.init.uniform_(module.gain, 0.5, 1.5)
    model = prepared(model)
    values, wanted = drawn(model, X)
    constant, gates = frozen(model, values, example=(X,))
    assert error(constant(X), wanted) <= 1e-10
    assert "conv3 it differs by" in gates[0].became
    assert not gates[0].folded


def test_layers_that_others_use_are_left():
    conv, gate = nn.Conv2d(8, 8, 1), create_block("se", 8)
    model = prepared(nn.Sequential(nn.Conv2d(3, 8, 1), conv, gate, conv))
    values, wanted = drawn(model, X)
    constant, (one,) = frozen(model, values)
    assert error(constant(X), wanted) <= 1e-10
    assert "1 is used more than once" in one.became


def test_two_gates_in_one_forward():
    model = prepared(Inline(gates=2))
    values, wanted = drawn(model, X)
    assert list(values) == ["the model", "the model:2"]
    constant, gates = frozen(model, values, example=(X,))
    assert error(constant(X), wanted) <= 1e-10
    assert [gate.folded for gate in gates] == [True, True]
    assert {name.partition(".")[0] for name, _ in constant.named_parameters()} == {"conv", "bn"}


def test_what_comes_after():
    """A fused network can be held, and a held one fused, folded and exported."""
    model = prepared(create_model("cifar_seresnet20"))
    values, wanted = drawn(model, X)
    fuse(model)
    constant = freeze_gates(model, {name: values[name] for name in list(values)[3:]})
    first = [site for site in find_gates(constant) if site.name in values]
    with listen(first, lambda name, gate: values[name].view(1, -1, 1, 1).expand_as(gate)), torch.no_grad():
        assert error(constant(X), wanted) <= 1e-10
    constant = freeze_gates(constant, {name: values[name] for name in list(values)[:3]})
    with torch.no_grad():
        assert error(constant(X), wanted) <= 1e-10
        assert error(fold(constant)(X), wanted) <= 1e-10
        exported = torch.export.export(constant, (X,)).module()
        assert error(exported(X), wanted) <= 1e-10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    model = create_model("cifar_seresnet8", placement="post").to(dtype).eval()
    constant = freeze_gates(model, {"layer1.0.se": torch.full((16,), 0.3)})
    assert constant.layer1[0].se.scale.dtype == dtype
    assert constant(X[..., :8, :8].to(dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "no gates are to be frozen"),
        ({"layer1.0.es": torch.ones(16)}, "no gate is called 'layer1.0.es'; did you mean 'layer1.0.se'"),
        ({"layer1.0.se": torch.ones(8)}, "8 values for the 16 gates of 'layer1.0.se'"),
        ({"layer1.0.se": torch.ones(1, 16)}, r"are torch.float32 \(1, 16\); accepted"),
        ({"layer1.0.se": torch.ones(16).long()}, r"are torch.int64 \(16,\); accepted"),
        ({"layer1.0.se": 0.5}, "are float; accepted"),
        ({"layer1.0.se": torch.full((16,), torch.nan)}, "16 values of 'layer1.0.se' are not finite"),
    ],
)
def test_bad_values(values, said):
    with pytest.raises(InputError, match=said):
        freeze_gates(create_model("cifar_seresnet20"), values)


@pytest.mark.parametrize("gate", [SEModule(8), create_block("se", 8)], ids=["timm", "ours"])
def test_a_gate_that_is_used_twice_is_refused(gate):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), gate, nn.ReLU(), gate)
    with pytest.raises(InputError, match="is used 2 times in one forward"):
        freeze_gates(model, {"1": torch.ones(8)}, example=(X.float(),))


def test_hooks_are_not_lost():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), SEModule(8))
    model[1].register_forward_hook(lambda *_: None)
    with pytest.raises(InputError, match="hooks on '1' or in it would be lost"):
        freeze_gates(model, {"1": torch.ones(8)}, example=(X.float(),))


@pytest.mark.parametrize(
    ("model", "said"),
    [(timm.create_model("resnet10t"), "no map that is gated"), (fold(create_model("cifar_seresnet8")), "is folded")],
)
def test_models_without_gates(model, said):
    with pytest.raises(InputError, match=said):
        freeze_gates(model, {"layer1.0.se": torch.ones(16)})
