from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import SEModule
from torch import nn

import senet
from senet.blocks import CBAM, SCSE, SqueezeExcite
from senet.errors import InputError
from senet.models import create_model
from senet.surgery.gating.find import find_gates, gates_and_left
from senet.surgery.gating.strip import stripped


class Tutorial(nn.Module):
    """As many tutorials write it: layers in a Sequential, views, expand_as."""

    def __init__(self, channels):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channels, 2, bias=False), nn.ReLU(), nn.Linear(2, channels, bias=False), nn.Sigmoid()
        )

    def forward(self, x):
        n, c, _, _ = x.size()
        return x * self.fc(self.avg_pool(x).view(n, c)).view(n, c, 1, 1).expand_as(x)


class GateAlone(nn.Module):
    """A module that gives a gate and leaves the product to whoever calls it."""

    def __init__(self, channels):
        super().__init__()
        self.pool, self.fc, self.act = nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.Sigmoid()

    def forward(self, x):
        return self.act(self.fc(self.pool(x)))


class Unit(nn.Module):
    """A gate that is a module's output, one that is scaled, and one that another sum takes too."""

    def __init__(self, kind):
        super().__init__()
        self.conv, self.se, self.kind = nn.Conv2d(3, 8, 3), GateAlone(8), kind

    def forward(self, x):
        u = self.conv(x)
        s = self.se(u)
        if self.kind == "scaled":
            return u * (2 * s)
        return u * s + (s if self.kind == "shared" else 0)


class Reused(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.se, self.b = nn.Conv2d(3, 8, 3), GateAlone(8), nn.Conv2d(8, 8, 3)

    def forward(self, x):
        x = self.a(x)
        x = self.b(x * self.se(x))
        return x * self.se(x)


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc1, self.fc2 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x):
        u = self.conv(x)
        return u * self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(u, 1)))).sigmoid()


def test_ours_are_known_and_nothing_runs():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), SqueezeExcite(8, reduction=2), CBAM(8, reduction=2), SCSE(8))
    model.register_forward_pre_hook(lambda *_: pytest.fail("it ran"))
    sites = find_gates(model)
    assert [site.name for site in sites] == ["1", "2.channel", "2.spatial", "3.cse", "3.sse"]
    assert [site.module for site in sites][:2] == [model[1].gate, model[2].channel.gate]


def test_ours_and_others_in_the_order_of_modules():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), SEModule(8), SqueezeExcite(8, reduction=2), Tutorial(8))
    sites = find_gates(model)
    assert [(s.name, s.module) for s in sites] == [("1", model[1].gate), ("2", model[2].gate), ("3", model[3].fc[3])]
    assert [s.channels for s in sites] == [8, None, 8]


@pytest.mark.parametrize(
    ("model", "names", "module"),
    [
        (Unit("plain"), ["se"], "se.act"),
        (Unit("scaled"), ["se"], None),
        (Unit("shared"), ["se"], None),
        (Reused(), ["se", "se:2"], None),
        (Functional(), ["the model"], None),
        (nn.Sequential(Functional()), ["0"], None),
    ],
)
def test_which_module_gives_a_gate(model, names, module):
    sites = find_gates(model)
    assert [site.name for site in sites] == names
    for site in sites:
        assert (site.tapped is None) == (module is not None)
        if module is not None:
            assert site.module is model.get_submodule(module)


def test_a_gate_between_two_owners_is_tapped():
    """One activation module for two gates runs twice in a pass, so its output is no single gate."""
    act = nn.Sigmoid()
    first, second = GateAlone(8), GateAlone(8)
    first.act = second.act = act
    assert [site.tapped is not None for site in find_gates(Pair(first, second))] == [True, True]


class Pair(nn.Module):
    def __init__(self, first, second):
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(3, 8, 3), first, second

    def forward(self, x):
        x = self.conv(x)
        x = x * self.first(x)
        return x * self.second(x)


def test_names_are_those_of_strip():
    model = timm.create_model("test_efficientnet")
    assert [site.name for site in find_gates(model)] == [gate.path for gate in stripped(model)[1]]


def test_a_model_is_left_alone():
    model = nn.Sequential(Functional(), nn.BatchNorm2d(8))
    before, state = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    classes = [type(m) for m in model.modules()]
    find_gates(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert [type(m) for m in model.modules()] == classes
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())


def test_fused_ones_are_found_where_they_were():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), SEModule(8), Functional8())
    sites = find_gates(model)
    fused = senet.fuse(model)
    assert [(s.name, s.module) for s in find_gates(fused)] == [(s.name, s.module) for s in sites]


class Functional8(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Conv2d(8, 8, 1)

    def forward(self, u):
        return u * self.fc(u.mean((2, 3), keepdim=True)).sigmoid()


def test_what_is_left():
    class TwoPools(Functional8):
        def forward(self, u):
            return u * torch.sigmoid(self.fc(u.mean((2, 3), keepdim=True) + u.amax((2, 3), keepdim=True)))

    sites, left = gates_and_left(nn.Sequential(nn.Conv2d(3, 8, 1), SEModule(8), TwoPools()))
    assert [site.name for site in sites] == ["1"]
    assert left == [("2", "the gate sees more of the map than its global average")]


def test_a_map_of_one_pixel_is_looked_at_again_larger():
    model = nn.Sequential(nn.Conv2d(3, 8, 32, stride=32), nn.Conv2d(8, 8, 2), Functional8())
    assert [site.name for site in find_gates(model)] == ["2"]
    assert [site.name for site in find_gates(model, (torch.randn(2, 3, 64, 64),))] == ["2"]


def test_a_map_that_is_always_one_pixel():
    model = nn.Sequential(nn.Conv2d(3, 8, 4), Functional8(), Functional8(), nn.Flatten(), nn.Linear(8, 8))
    example = (torch.randn(2, 3, 4, 4),)
    with pytest.raises(InputError, match="the map has one pixel in the example"):
        find_gates(model, example)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: nn.Linear(2, 2), "Linear has no map that is gated by its own global average; give a network"),
        (lambda: create_model("cifar_resnet8"), "ResNet has no map that is gated"),
        (lambda: timm.create_model("test_resnet"), "ResNet has no map that is gated"),
        (lambda: torch.compile(create_model("cifar_seresnet8")), "is compiled"),
        (lambda: nn.Sequential(torch.compile(SqueezeExcite(8))), "is compiled"),
        (lambda: senet.fold(create_model("cifar_seresnet8").eval()), "the model is folded already"),
    ],
)
def test_refused(make, said):
    with pytest.raises(InputError, match=said) as error:
        find_gates(make())
    assert "\n" not in str(error.value)


def test_compiled_in_place():
    model = create_model("cifar_seresnet8")
    model.compile()
    with pytest.raises(InputError, match="is compiled"):
        find_gates(model)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # of torch 2.11, by itself
def test_scripted():
    with pytest.warns((FutureWarning, DeprecationWarning), match="deprecated"):
        scripted = torch.jit.script(SEModule(8))
    with pytest.raises(InputError, match="ScriptModule"):
        find_gates(scripted)
    # A part alone is left, and what is around it is read.
    assert [site.name for site in find_gates(nn.Sequential(nn.Conv2d(3, 8, 1), scripted, SEModule(8)))] == ["2"]


def test_copies_on_several_devices():
    model = nn.DataParallel(nn.Sequential(nn.Conv2d(3, 8, 1), SqueezeExcite(8, reduction=2)))
    with pytest.raises(InputError, match=r"wrapped for distributed training \(DataParallel\)"):
        find_gates(model)
    assert [site.name for site in find_gates(model.module)] == ["1"]


def test_an_example_that_does_not_fit():
    with pytest.raises(InputError, match="does not take an example of shape"):
        find_gates(nn.Sequential(Functional()), (torch.randn(2, 5, 16, 16),))
