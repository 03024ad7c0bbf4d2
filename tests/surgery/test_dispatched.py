"""The oracle that other tests count gated products by: benchmarks/dispatched.py, on networks whose count is plain."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

ORACLE = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "dispatched.py")))


class Gate(nn.Module):
    """Numbers of channels, (N, C), from numbers of channels."""

    def __init__(self, channels=4):
        super().__init__()
        self.fc = nn.Linear(channels, channels)

    def forward(self, mean):
        return self.fc(mean).sigmoid()


class Net(nn.Module):
    """A convolution, a norm, and a function of their map and a gate's layers."""

    def __init__(self, function, axes=2):
        super().__init__()
        conv, norm = [(nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d), (nn.Conv3d, nn.BatchNorm3d)][axes - 1]
        self.conv, self.norm, self.gate = conv(3, 4, 3, padding=1), norm(4), Gate()
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.function = function

    def forward(self, x, *others):
        return self.function(self, self.norm(self.conv(x)), *others)


def products(function, *others, axes=2, size=6):
    x = torch.randn(2, 3, *[size] * axes, dtype=torch.float64)
    net = ORACLE.prepared(Net(function, axes), x, *others)
    return ORACLE.gated_products(net, x, *others)


def wide(gate):
    return gate[:, :, None, None]


def into(target, u, gate):
    return target.copy_(u * wide(gate))


def buffered(m, u):
    """The average by way of memory that was made before."""
    kept = torch.zeros(2, 4, dtype=u.dtype)
    kept[:, :2] = u[:, :2].mean((2, 3))
    kept[:, 2:] = u[:, 2:].mean((2, 3))
    return u * wide(m.gate(kept))


AVERAGES = {
    "mean": lambda m, u: u * wide(m.gate(u.mean((2, 3)))),
    "gate first": lambda m, u: wide(m.gate(u.mean((2, 3)))) * u,
    "adaptive pool": lambda m, u: u * wide(m.gate(F.adaptive_avg_pool2d(u, 1).flatten(1))),
    "pool of the size": lambda m, u: u * wide(m.gate(F.avg_pool2d(u, u.shape[-1]).flatten(1))),
    "sum over numbers": lambda m, u: u * wide(m.gate(u.flatten(2).sum(-1) / u.shape[2:].numel())),
    "one axis after the other": lambda m, u: u * wide(m.gate(u.mean(3).mean(2))),
    "einsum": lambda m, u: torch.einsum("nchw,nc->nchw", u, m.gate(torch.einsum("nchw->nc", u) / 36)),
    "matrix product": lambda m, u: u * wide(m.gate((u.flatten(2) @ u.new_full((36, 1), 1 / 36)).flatten(1))),
    "expanded": lambda m, u: u * wide(m.gate(u.mean((2, 3)))).expand_as(u),
    "written out": lambda m, u: u * wide(m.gate(u.mean((2, 3)))).repeat(1, 1, 6, 6),
    "in place": lambda m, u: u.mul_(wide(m.gate(u.mean((2, 3))))),
    "in place after another": lambda m, u: (u.relu_() * 1).mul_(wide(m.gate(F.adaptive_avg_pool2d(u, 1).flatten(1)))),
    "with the sum": lambda m, u: torch.addcmul(u.detach() * 2, u, wide(m.gate(u.mean((2, 3))))),
    "divided": lambda m, u: u / (1 + torch.exp(-wide(m.gate.fc(u.mean((2, 3)))))),
    "channels last": lambda m, u: u.contiguous(memory_format=torch.channels_last) * wide(m.gate(u.mean((2, 3)))),
    "mapped": lambda m, u: torch.vmap(lambda v, g: v * g[:, None, None])(u, m.gate(u.mean((2, 3)))),
    "through memory": buffered,
    "into another": lambda m, u: into(torch.empty_like(u), u, m.gate(u.mean((2, 3)))),
}


@pytest.mark.parametrize("name", AVERAGES)
def test_finds_a_gate_however_it_is_written(name):
    (found,) = products(AVERAGES[name])
    assert found.kind == "average"
    assert found.shape == (2, 4, 6, 6)
    assert (found.path, found.index, found.calls) == ("", 0, 1)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_maps_of_one_to_three_axes(axes):
    (found,) = products(lambda m, u: u * m.gate(u.flatten(2).mean(2)).view(2, 4, *[1] * axes), axes=axes)
    assert found.shape == (2, 4, *[6] * axes)


def other_map(m, u):
    return u * wide(m.gate(u.relu().mean((2, 3))))


def changed_since(m, u):
    gate = m.gate(u.mean((2, 3)))
    return u.relu_() * wide(gate)


NONE = {
    "layer scale": lambda m, u: u * m.scale,
    "layer scale beside a gate's layers": lambda m, u: u * m.scale + wide(m.gate(u.mean((2, 3)))),
    "a constant": lambda m, u: u * 0.5,
    "drop path": lambda m, u: u * torch.full((2, 1, 1, 1), 0.5, dtype=u.dtype) * u.new_ones(2, 4, 1, 1),
    "one number an image": lambda m, u: u * wide(m.gate(u.mean((2, 3)))).mean(1, keepdim=True),
    "one number a channel of all images": lambda m, u: u * wide(m.gate(u.mean((2, 3)))).mean(0, keepdim=True),
    "the average of another map": other_map,
    "the average of what the map was": changed_since,
    "the largest": lambda m, u: u * wide(m.gate(u.amax((2, 3)))),
    "the average of other images": lambda m, u: u * wide(m.gate(u.flip(0).mean((2, 3)))),
    "a gate over positions": lambda m, u: u * u.mean(1, keepdim=True).sigmoid(),
    "a map by a map": lambda m, u: u * u.sigmoid(),
    "a norm of its own": lambda m, u: (u - u.mean((2, 3), keepdim=True)) * u.var((2, 3), keepdim=True).rsqrt(),
    "a sum, not a product": lambda m, u: u + wide(m.gate(u.mean((2, 3)))),
    "one pixel": lambda m, u: F.adaptive_avg_pool2d(u, 1) * wide(m.gate(u.mean((2, 3)))),
}


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_gate(name):
    assert products(NONE[name]) == []


def test_another_input_is_no_gate():
    assert products(lambda m, u, t: u * wide(m.gate(t)), torch.randn(2, 4, dtype=torch.float64)) == []


def test_two_maps_with_the_gate_of_one():
    """One of a pair is gated by its own average, the other by that of its neighbour."""
    (found,) = products(lambda m, u: (u * wide(m.gate(u.mean((2, 3))))) + u.tanh() * wide(m.gate(u.mean((2, 3)))))
    assert found.index == 0


MORE = {
    "the largest too": lambda m, u: u * wide(m.gate(u.mean((2, 3))) + m.gate(u.amax((2, 3)))),
    "the spread too": lambda m, u: u * wide(m.gate(u.mean((2, 3)) + u.flatten(2).std(2))),
    "another map too": lambda m, u: u * wide(m.gate(u.mean((2, 3)) + u.exp().mean((2, 3)))),
}


@pytest.mark.parametrize("name", MORE)
def test_gates_that_see_more(name):
    (found,) = products(MORE[name])
    assert found.kind == "more"


def test_another_input_beside_the_average():
    (found,) = products(lambda m, u, t: u * wide(m.gate(u.mean((2, 3)) + t)), torch.randn(2, 4, dtype=torch.float64))
    assert found.kind == "more"


def test_channels_last():
    def last(m, u):
        u = u.permute(0, 2, 3, 1)
        return u * m.gate(u.mean((1, 2)))[:, None, None]

    (found,) = products(last)
    assert (found.kind, found.shape) == ("last", (2, 6, 6, 4))


class Block(nn.Module):
    """Squeeze-and-excitation as a module."""

    def __init__(self):
        super().__init__()
        self.gate = Gate()

    def forward(self, u):
        u = u * wide(self.gate(u.mean((2, 3))))
        return u * wide(self.gate(u.mean((2, 3))))


class Twice(nn.Module):
    """One block that runs twice, and a gate written where it stands."""

    def __init__(self):
        super().__init__()
        self.stem, self.stage = nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 1), Block())
        self.gate = Gate()

    def forward(self, x):
        u = self.stage(self.stage(self.stem(x)))
        return u * wide(self.gate(u.mean((2, 3))))


def test_where_and_how_often():
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    found = ORACLE.gated_products(ORACLE.prepared(Twice(), x), x)
    assert [(p.path, p.index, p.calls) for p in found] == [("stage.1", 0, 2), ("stage.1", 1, 2), ("", 0, 1)]


@pytest.mark.parametrize(
    ("function", "may"), [(AVERAGES["mean"], True), (NONE["layer scale"], False), (NONE["a sum, not a product"], False)]
)
def test_shapes_alone(function, may):
    """No numbers are needed to know of most networks that they have no gate."""
    with torch.device("meta"):
        assert ORACLE.may_have_gates(Net(function), torch.randn(2, 3, 6, 6)) is may


def test_leaves_nothing_behind():
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    net = ORACLE.prepared(Twice(), x)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    y = net(x)
    assert ORACLE.gated_products(net, x) == ORACLE.gated_products(net, x)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert torch.equal(net(x), y)


def test_prepared_hides_nothing():
    """No norm, bias or gain is all one number, and values neither vanish nor grow."""
    torch.manual_seed(0)
    x = torch.randn(2, 8, 9, 9, dtype=torch.float64)
    layers = [nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()) for _ in range(20)]
    for layer in layers:
        nn.init.zeros_(layer[1].weight)
        nn.init.zeros_(layer[0].bias)
    net = ORACLE.prepared(nn.Sequential(*layers), x)
    assert not net.training
    for value in [*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())]:
        assert value.dtype == torch.float64
        assert value.unique().numel() > 1
    with torch.no_grad():
        assert 0.01 < float(net(x).std()) < 10


def product(path, index=0, calls=1):
    return ORACLE.Product(path, index, "average", (2, 4, 6, 6), calls)


class TestAccount:
    """Rows of a report set beside products."""

    def test_nearest_go_together(self):
        inline, block = product("layer1.0"), product("layer1.0.se")
        told = ORACLE.account([inline, block], [("layer1.0.se", "a"), ("layer1.0.gate", "b")])
        assert told.said == {inline: ("layer1.0.gate", "b"), block: ("layer1.0.se", "a")}
        assert told.silent == told.others == []

    def test_a_row_each(self):
        one, other = product("se"), product("se", 1)
        told = ORACLE.account([one, other], [("se", "a")])
        assert (len(told.said), told.silent, told.others) == (1, [other], [])
        assert ORACLE.account([one], [("se", "a"), ("se:2", "b")]).others == [("se:2", "b")]

    def test_names_alike_are_not_near(self):
        told = ORACLE.account([product("layer1.1")], [("layer1.10", "a"), ("layer1", "b")])
        assert list(told.said.values()) == [("layer1", "b")]
        assert told.others == [("layer1.10", "a")]

    def test_as_many_rows_as_calls(self):
        shared = product("gate", calls=3)
        assert ORACLE.account([shared], [("gate", "a")] * 3).others == []
        assert ORACLE.account([shared], [("gate", "a")] * 4).others == [("gate", "a")]
