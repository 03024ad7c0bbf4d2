from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import senet
from senet.analysis.complexity import count
from senet.analysis.gates.record import record
from senet.blocks import SqueezeExcite
from senet.errors import InputError
from senet.models import create_model
from senet.models.units import UNITS, PadShortcut, Shape, conv1x1
from senet.surgery.gating.freeze import freeze_gates
from senet.surgery.gating.strip import strip

POST = ("basic", "bottleneck")
PLACEMENTS = ("standard", "pre", "post", "identity", "parallel", "3x3")
CASES = [
    (unit, placement)
    for unit in UNITS
    for placement in (None, *PLACEMENTS)
    if placement != "3x3" or unit.endswith("bottleneck")
]


def build(unit, placement, randomise, *, inputs=8, planes=8, stride=1, groups=1, base_width=64, shortcut="projection"):
    outputs = planes * UNITS[unit].expansion
    downsample = None
    if stride != 1 or inputs != outputs:
        downsample = {
            "projection": lambda: conv1x1(inputs, outputs, stride),
            "normed": lambda: nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs)),
            "pad": lambda: PadShortcut(inputs, outputs, stride),
        }[shortcut]()
    width = planes * base_width // 64 * groups
    shape = Shape(
        inputs=inputs,
        width=width,
        outputs=outputs,
        narrow=width,
        stride=stride,
        stride_in="1x1" if unit == "preact_bottleneck" else "3x3",
        groups=groups,
    )
    module = UNITS[unit](
        shape,
        shortcut=downsample,
        placement=placement or "standard",
        make_block=lambda channels: None if placement is None else SqueezeExcite(channels, reduction=4),
    )
    return randomise(module).double().eval()


def naive_forward(unit, net, placement, x):
    """The paper's Fig. 5, written out for each unit, and the form whose gate comes from the other summand."""

    def at(place, value):
        return net.se(value) if placement == place else value

    def other(value):
        return at("identity", value if net.downsample is None else net.downsample(value))

    def total(branch, shortcut):
        gate = torch.ones(())
        if placement == "parallel":
            gate = net.se.gate(net.se.fc2(relu(net.se.fc1(shortcut.mean((2, 3), keepdim=True)))))
        return at("standard", branch) * gate + shortcut

    relu = torch.relu
    if unit == "basic":
        branch = net.bn2(net.conv2(relu(net.bn1(net.conv1(at("pre", x))))))
        return at("post", relu(total(branch, other(x))))
    if unit == "bottleneck":
        inner = relu(net.bn2(net.conv2(relu(net.bn1(net.conv1(at("pre", x)))))))
        branch = net.bn3(net.conv3(at("3x3", inner)))
        return at("post", relu(total(branch, other(x))))
    active = relu(net.bn1(at("pre", x)))
    shortcut = other(x if net.downsample is None else active)
    if unit == "preact_basic":
        branch = net.conv2(relu(net.bn2(net.conv1(active))))
    else:
        inner = at("3x3", net.conv2(relu(net.bn2(net.conv1(active)))))
        branch = net.conv3(relu(net.bn3(inner)))
    return at("post", total(branch, shortcut))


@pytest.mark.parametrize(("unit", "placement"), CASES)
@pytest.mark.parametrize("shape", ["same", "wider", "smaller"])
def test_placements(unit, placement, shape, randomise):
    outputs = 8 * UNITS[unit].expansion
    form = {"same": {"inputs": outputs}, "wider": {"inputs": 6}, "smaller": {"inputs": 6, "stride": 2}}[shape]
    net = build(unit, placement, randomise, **form, shortcut="normed" if unit in POST else "projection")
    x = torch.randn(2, form["inputs"], 7, 9, dtype=torch.float64)
    result = net(x.clone())
    assert result.shape == ((2, outputs, 4, 5) if shape == "smaller" else (2, outputs, 7, 9))
    torch.testing.assert_close(result, naive_forward(unit, net, placement, x))


@pytest.mark.parametrize(("unit", "placement"), [case for case in CASES if case[1] is not None])
def test_gates_of_one_make_the_plain_unit(unit, placement, randomise):
    net = build(unit, placement, randomise, inputs=6, stride=2)
    plain = build(unit, None, randomise, inputs=6, stride=2)
    plain.load_state_dict({key: value for key, value in net.state_dict().items() if not key.startswith("se.")})
    x = torch.randn(2, 6, 7, 7, dtype=torch.float64)
    assert not torch.allclose(net(x), plain(x))
    net.se.gate = nn.Identity()
    nn.init.zeros_(net.se.fc2.weight)
    nn.init.ones_(net.se.fc2.bias)
    torch.testing.assert_close(net(x), plain(x))


@pytest.mark.parametrize(("unit", "placement"), CASES)
def test_does_not_touch_its_input(unit, placement, randomise):
    """Maps are handed to the next unit and out as features, so a ReLU in place must not reach them."""
    net = build(unit, placement, randomise, inputs=8 * UNITS[unit].expansion)
    x = torch.randn(2, net.conv1.in_channels, 5, 5, dtype=torch.float64)
    before = x.clone()
    net(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize(("unit", "placement"), CASES)
def test_gradients_reach_every_parameter(unit, placement, randomise):
    net = build(unit, placement, randomise, inputs=6, stride=2).train()
    if placement is not None:
        nn.init.constant_(net.se.fc1.bias, 3.0)  # or a ReLU may be off for every image
    net(torch.randn(2, 6, 7, 7, dtype=torch.float64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize(
    ("unit", "strides"),
    [
        ("basic", {"conv1": 2, "conv2": 1}),
        ("bottleneck", {"conv1": 1, "conv2": 2, "conv3": 1}),
        ("preact_basic", {"conv1": 2, "conv2": 1}),
        ("preact_bottleneck", {"conv1": 2, "conv2": 1, "conv3": 1}),
    ],
)
def test_where_the_stride_is(unit, strides, randomise):
    net = build(unit, None, randomise, inputs=6, stride=2)
    assert {name: net.get_submodule(name).stride[0] for name in strides} == strides


@pytest.mark.parametrize(
    ("unit", "placement", "channels"),
    [
        ("bottleneck", "standard", 32),
        ("bottleneck", "pre", 6),
        ("bottleneck", "post", 32),
        ("bottleneck", "identity", 32),
        ("bottleneck", "parallel", 32),
        ("bottleneck", "3x3", 16),
        ("preact_bottleneck", "3x3", 16),
        ("preact_bottleneck", "pre", 6),
        ("preact_basic", "identity", 8),
        ("basic", "pre", 6),
    ],
)
def test_the_block_has_the_channels_of_its_place(unit, placement, channels, randomise):
    bottleneck = unit.endswith("bottleneck")
    net = build(unit, placement, randomise, inputs=6, **({"groups": 4, "base_width": 32} if bottleneck else {}))
    assert net.se.fc1.in_channels == channels


def test_groups_and_their_width(randomise):
    net = build("bottleneck", None, randomise, planes=64, groups=32, base_width=4, inputs=16)
    assert (net.conv2.in_channels, net.conv2.groups) == (128, 32)
    assert net.conv2.weight.shape == (128, 4, 3, 3)


def test_pad_shortcut():
    x = torch.randn(2, 3, 5, 7)
    y = PadShortcut(3, 8, 2)(x)
    assert torch.equal(y[:, :3], x[:, :, ::2, ::2])
    assert torch.equal(y[:, 3:], torch.zeros(2, 5, 3, 4))
    with pytest.raises(InputError, match=r"cannot take 8 channels to 3; give shortcut='projection'$"):
        PadShortcut(8, 3, 2)


def test_pad_shortcut_in_a_unit(randomise):
    net = build("basic", "standard", randomise, inputs=6, stride=2, shortcut="pad")
    x = torch.randn(2, 6, 7, 7, dtype=torch.float64)
    padded = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, 2))
    branch = net.bn2(net.conv2(torch.relu(net.bn1(net.conv1(x)))))
    torch.testing.assert_close(net(x), torch.relu(net.se(branch) + padded))


@pytest.mark.parametrize("unit", ["basic", "preact_basic"])
def test_units_of_two_convolutions_have_no_inner_place(unit, randomise):
    with pytest.raises(InputError, match=r"placement is '3x3', but .* units accept: 'standard', 'pre', 'post', 'ident"):
        build(unit, "3x3", randomise)


def test_a_gate_from_the_input_is_that_of_the_input_itself(randomise):
    """Where the shortcut is the identity, nothing stands between the unit's input and the gate."""
    net = build("basic", "parallel", randomise)
    x = torch.randn(2, 8, 7, 7, dtype=torch.float64)
    branch = net.bn2(net.conv2(torch.relu(net.bn1(net.conv1(x)))))
    torch.testing.assert_close(net(x), torch.relu(branch * net.se.gates(x) + x))


@pytest.mark.parametrize("block", ["cbam", "scse", "gc", "sk"])
def test_only_a_gate_can_scale_another_map(block):
    with pytest.raises(InputError, match=r"placement is 'parallel', but \w+ gives no gate that another map"):
        create_model("cifar_resnet8", attn=block, placement="parallel")


def test_a_gate_from_the_input_is_recorded_taken_out_and_counted():
    """Listened to as any other; taken out, it leaves the plain network; what free SE cannot take computes as before."""
    torch.manual_seed(0)
    net = create_model("cifar_seresnet8", placement="parallel").eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad(), record(net) as recording:
        net(x)
    first = net.layer1[0]
    inputs = net.act1(net.bn1(net.conv1(x)))
    torch.testing.assert_close(recording.gates["layer1.0.se"], first.se.gates(inputs)[..., 0, 0])

    plain = create_model("cifar_resnet8").eval()
    plain.load_state_dict({key: value for key, value in net.state_dict().items() if ".se." not in key})
    torch.testing.assert_close(strip(net)(x), plain(x))

    image = (3, 32, 32)
    assert count(net, image) == count(create_model("cifar_seresnet8"), image)
    before = net(x)
    torch.testing.assert_close(senet.fold(net)(x), before, rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="is called by keyword"):
        freeze_gates(net, {"layer1.0.se": torch.ones(16)})
    assert senet.report(senet.fuse(net)).taken == []
    assert torch.equal(net(x), before)


@pytest.mark.parametrize("unit", list(UNITS))
@pytest.mark.parametrize("placement", [None, "standard", "pre", "post", "identity", "parallel"])
def test_compile_export_copy_and_memory_format(unit, placement, randomise):
    net = build(unit, placement, randomise, inputs=6, stride=2).float()
    x = torch.randn(2, 6, 7, 7)
    y = net(x)
    torch.compiler.reset()
    torch.testing.assert_close(torch.compile(copy.deepcopy(net), fullgraph=True, backend="eager")(x), y)
    torch.testing.assert_close(torch.export.export(net, (x,)).module()(x), y)
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, y)
