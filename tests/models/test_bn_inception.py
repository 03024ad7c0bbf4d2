"""BN-Inception against the authors' prototxt, which Caffe's rules evaluate here with nothing of the network's code."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from senet.analysis.complexity import count
from senet.models import create_model
from senet.models.bn_inception import TABLE

MODULES = ["3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"]
HALVING = ["3c", "4e"]


def names_of_the_release():
    """The convolutions of the prototxt, in its order."""
    names = ["conv1/7x7_s2", "conv2/3x3_reduce", "conv2/3x3"]
    for module in MODULES:
        layers = ["3x3_reduce", "3x3", "double3x3_reduce", "double3x3a", "double3x3b"]
        if module not in HALVING:
            layers = ["1x1", *layers, "pool_proj"]
        names += [f"inception_{module}/{layer}" for layer in layers]
    return names


def caffe_pool(x, *, kind, stride, pad):
    """3x3 windows by Caffe's rules: sizes rounded up; a maximum over the map, an average over map and zeros around."""
    height, width = x.shape[2:]
    rows, columns = (math.ceil((size + 2 * pad - 3) / stride) + 1 for size in (height, width))
    y = x.new_empty(*x.shape[:2], rows, columns)
    for i in range(rows):
        for j in range(columns):
            top, left = i * stride - pad, j * stride - pad
            area = (min(top + 3, height + pad) - top) * (min(left + 3, width + pad) - left)
            window = x[:, :, max(top, 0) : top + 3, max(left, 0) : left + 3]
            y[:, :, i, j] = window.amax((2, 3)) if kind == "max" else window.sum((2, 3)) / area
    return y


class Caffe:
    """The prototxt, layer by layer, on the weights of a state_dict."""

    def __init__(self, state):
        self.state = {key: value.detach().double() for key, value in state.items()}

    def conv(self, x, name, *, stride=1):
        """Convolution, BatchNorm with the running statistics, Scale, ReLU."""
        key = name.replace("/", ".")
        weight = self.state[f"{key}.conv.weight"]
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, var, gamma, beta = (
            self.state[f"{key}.bn.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (var + 1e-5).sqrt() * gamma + beta).clamp(min=0)

    def stem(self, x):
        x = caffe_pool(self.conv(x, "conv1/7x7_s2", stride=2), kind="max", stride=2, pad=0)
        x = self.conv(self.conv(x, "conv2/3x3_reduce"), "conv2/3x3")
        return caffe_pool(x, kind="max", stride=2, pad=0)

    def module(self, x, name):
        """A module up to its concatenation."""
        at, stride = f"inception_{name}", 2 if name in HALVING else 1
        three = self.conv(self.conv(x, f"{at}/3x3_reduce"), f"{at}/3x3", stride=stride)
        double = self.conv(self.conv(x, f"{at}/double3x3_reduce"), f"{at}/double3x3a")
        double = self.conv(double, f"{at}/double3x3b", stride=stride)
        if name in HALVING:
            return torch.cat([three, double, caffe_pool(x, kind="max", stride=2, pad=0)], 1)
        pooled = caffe_pool(x, kind="max" if name == "5b" else "avg", stride=1, pad=1)
        return torch.cat([self.conv(x, f"{at}/1x1"), three, double, self.conv(pooled, f"{at}/pool_proj")], 1)

    def scale(self, x, name):
        """The module's gate: global average, 1x1_down, ReLU, 1x1_up, sigmoid."""
        z = F.relu(self.linear(x.mean((2, 3), keepdim=True), f"inception_{name}.se.fc1"))
        return x / (1 + torch.exp(-self.linear(z, f"inception_{name}.se.fc2")))

    def linear(self, x, key):
        return F.conv2d(x, self.state[f"{key}.weight"], self.state[f"{key}.bias"])


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return create_model("sebn_inception", num_classes=7).double().eval()


def test_exact_counts():
    costs = {}
    for name in TABLE:
        with torch.device("meta"):
            net = create_model(name)
        costs[name] = count(net, (3, 224, 224))
    plain, with_se = costs["bn_inception"].total, costs["sebn_inception"].total
    assert (plain.parameters, with_se.parameters) == (11_285_224, 11_931_622)
    assert (round(plain.multiply_adds / 1e9, 4), round(with_se.multiply_adds / 1e9, 4)) == (2.0326, 2.0332)
    assert with_se.multiply_adds - plain.multiply_adds == 639_360
    assert costs["sebn_inception"].attention.parameters == 646_398


def test_modules_are_called_as_the_layers_of_the_release(net):
    convolutions = [key.removesuffix(".conv.weight") for key in net.state_dict() if key.endswith(".conv.weight")]
    assert sorted(convolutions) == sorted(name.replace("/", ".") for name in names_of_the_release())
    assert len(convolutions) == 69
    blocks = [key.removesuffix(".fc1.weight") for key in net.state_dict() if key.endswith(".fc1.weight")]
    assert blocks == [f"inception_{module}.se" for module in MODULES]
    hidden = [net.get_submodule(f"{block}.fc1").out_channels for block in blocks]
    assert hidden == [16, 20, 36, 36, 36, 38, 38, 66, 64, 64]


@pytest.mark.parametrize("size", [(64, 70), (97, 63)])
def test_computes_what_the_prototxt_says(net, randomise, size):
    randomise(net)
    caffe = Caffe(net.state_dict())
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        found, expected = net.pool2(net.conv2(net.pool1(net.conv1(x)))), caffe.stem(x)
        torch.testing.assert_close(found, expected)
        for name in MODULES:
            module = net.get_submodule(f"inception_{name}")
            before = caffe.module(expected, name)
            torch.testing.assert_close(module.concatenation(expected), before)
            expected = caffe.scale(before, name)
            assert not torch.allclose(expected, before)
            found = module(found)
            torch.testing.assert_close(found, expected)
        assert found.shape == (2, 1024, 3 if size[0] > 96 else 2, 2)
        logits = expected.mean((2, 3)) @ caffe.state["fc.weight"].T + caffe.state["fc.bias"]
        torch.testing.assert_close(net(x), logits)


def test_the_plain_network_is_the_prototxt_without_its_gates(net, randomise):
    plain = randomise(create_model("bn_inception", num_classes=7)).double().eval()
    caffe = Caffe(plain.state_dict())
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    expected = caffe.stem(x)
    for name in MODULES:
        expected = caffe.module(expected, name)
    with torch.no_grad():
        torch.testing.assert_close(plain.forward_features(x), expected)


@pytest.mark.parametrize("size", [(7, 4), (5, 5), (4, 6), (1, 3)])
def test_where_a_map_of_odd_size_is_halved_the_pool_reaches_over_its_edge(net, size):
    x = -torch.rand(1, 576, *size, dtype=torch.float64)  # below zero, so that zeros beyond the edge would show
    module = net.get_submodule("inception_4e")
    rows, columns = (math.ceil(edge / 2) for edge in size)
    pooled = module.get_submodule("pool")(x)
    assert pooled.shape == (1, 576, rows, columns)
    for i in range(rows):
        for j in range(columns):
            assert torch.equal(pooled[:, :, i, j], x[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].amax((2, 3)))


@pytest.mark.parametrize("size", [(80, 33), (131, 112)])
def test_any_image(net, size):
    with torch.no_grad():
        assert net(torch.randn(1, 3, *size, dtype=torch.float64)).shape == (1, 7)


@pytest.mark.parametrize(
    ("stages", "modules"),
    [((3,), MODULES[:2]), ((4,), MODULES[2:7]), ((5,), MODULES[7:]), ((3, 5), MODULES[:2] + MODULES[7:]), ((), [])],
)
def test_stages(stages, modules):
    with torch.device("meta"):
        net = create_model("sebn_inception", stages=stages)
    assert [m for m in MODULES if net.get_submodule(f"inception_{m}").se is not None] == modules


def test_the_features_are_the_last_maps_of_each_size(net):
    backbone = create_model("sebn_inception", features_only=True).double().eval()
    backbone.load_state_dict({key: v for key, v in net.state_dict().items() if not key.startswith("fc.")}, strict=True)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        maps = backbone(x)
        torch.testing.assert_close(maps[-1], net.forward_features(x))
        torch.testing.assert_close(net.pool2(maps[1]), net.pool2(net.conv2(net.pool1(maps[0]))))
    assert [m.shape[1:] for m in maps] == [(64, 32, 32), (192, 16, 16), (320, 8, 8), (608, 4, 4), (1024, 2, 2)]
