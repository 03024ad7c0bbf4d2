from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from senet.analysis.complexity import count
from senet.errors import InputError
from senet.models import create_model
from senet.models.shufflenet import ShuffleNet, ShuffleNetConfig, ShuffleUnit

NO_BIAS = {"bias": False}


def small(name="seshufflenet_g3", **options):
    return create_model(name, **{"width": 0.25, "depths": (1, 2, 1), "num_classes": 5, **options})


def cost(name, **options):
    with torch.device("meta"):
        return count(create_model(name, **options), (3, 224, 224))


def units(net):
    return [unit for stage in (net.stage2, net.stage3, net.stage4) for unit in stage]


def reference(net, state, x, *, train):
    """The network, written down from the paper's Table 1 and Fig. 2, with SE at the end of each branch."""

    def norm(x, name):
        moments = (state[f"{name}.running_mean"].clone(), state[f"{name}.running_var"].clone())
        return F.batch_norm(x, *moments, state[f"{name}.weight"], state[f"{name}.bias"], training=train)

    def conv(x, name, **options):
        return F.conv2d(x, state[f"{name}.weight"], **options)

    def shuffled(x, groups):
        each = x.shape[1] // groups
        return torch.stack([x[:, group * each + number] for number in range(each) for group in range(groups)], dim=1)

    groups = net.config.groups
    x = F.relu(norm(conv(x, "conv1", stride=2, padding=1), "bn1"))
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    for stage, depth in zip((2, 3, 4), net.config.depths, strict=True):
        for number in range(depth):
            name, halving = f"stage{stage}.{number}", number == 0
            y = conv(x, f"{name}.conv1", groups=1 if stage == 2 and halving else groups)
            y = shuffled(F.relu(norm(y, f"{name}.bn1")), groups)
            y = norm(conv(y, f"{name}.conv2", stride=2 if halving else 1, padding=1, groups=y.shape[1]), f"{name}.bn2")
            y = norm(conv(y, f"{name}.conv3", groups=groups), f"{name}.bn3")
            hidden = F.relu(conv(y.mean((2, 3), keepdim=True), f"{name}.se.fc1", bias=state[f"{name}.se.fc1.bias"]))
            y = y * torch.sigmoid(conv(hidden, f"{name}.se.fc2", bias=state[f"{name}.se.fc2.bias"]))
            x = F.relu(torch.cat([y, F.avg_pool2d(x, 3, stride=2, padding=1)], dim=1) if halving else y + x)
    return x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


@pytest.mark.parametrize(
    ("groups", "width", "parameters"),
    [
        (1, 1.0, 1_531_936),
        (2, 1.0, 1_733_848),
        (3, 1.0, 1_865_728),
        (4, 1.0, 1_968_344),
        (8, 1.0, 2_434_768),
        (1, 0.75, 975_214),
        (3, 0.75, 1_238_266),
        (1, 0.5, 534_484),
        (3, 0.5, 718_324),
        (1, 0.25, 209_746),
        (3, 0.25, 305_902),
    ],
)
def test_parameters_are_pytorchcvs(groups, width, parameters):
    assert cost("shufflenet_g3", groups=groups, width=width).total.parameters == parameters


def test_cost_of_the_papers_network_and_of_its_blocks():
    """SE paper, Table 3: 140 to 142 MFLOPs, 1.8 M to 2.4 M parameters (cut off); squeeze and scale count there."""
    plain, without_bias, default = (
        cost("shufflenet_g3"), cost("seshufflenet_g3", attn_options=NO_BIAS), cost("seshufflenet_g3"),
    )  # fmt: skip
    assert plain.total.multiply_adds == 137_460_672
    assert without_bias.total.parameters == 2_476_144
    assert without_bias.attention.parameters == without_bias.attention.multiply_adds == 610_416
    assert default.total.parameters == 2_476_144 + 8_389
    assert default.total.multiply_adds == 137_460_672 + 610_416
    assert default.attention.scaled == default.attention.squeezed == 1_604_064
    assert len(default.sites) == 16


def test_multiply_adds_are_those_of_the_layers():
    """From Table 1: 24 channels, then 240, 480 and 960 in units of a quarter inside, at 28, 14 and 7 pixels."""
    total, inputs = 112**2 * 27 * 24, 24
    for size, outputs, depth, first in ((28, 240, 4, 1), (14, 480, 8, 3), (7, 960, 4, 3)):
        inside = outputs // 4
        total += (2 * size) ** 2 * inputs * inside // first + size**2 * inside * (9 + (outputs - inputs) // 3)
        total += (depth - 1) * size**2 * inside * (outputs // 3 + 9 + outputs // 3)
        inputs = outputs
    assert cost("shufflenet_g3").total.multiply_adds == total + 960 * 1000


def test_blocks_sit_on_the_branch_before_it_is_joined():
    net = create_model("seshufflenet_g3")
    widths = [unit.se.fc2.out_channels for unit in units(net)]
    assert widths == [216, 240, 240, 240, 240, *[480] * 7, 480, 960, 960, 960]
    assert [unit.se.fc1.out_channels for unit in units(net)] == [width // 16 for width in widths]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (33, 47)])
@pytest.mark.parametrize("groups", [1, 3, 4])
def test_is_what_the_papers_say(groups, size, train, randomise):
    net = randomise(small(groups=groups)).double().train(train)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    state = {key: value.detach() for key, value in net.state_dict().items()}
    wanted = reference(net, state, x, train=train)
    result = net(x)
    torch.testing.assert_close(result, wanted)
    assert wanted.std() > 1e-3
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (result, wanted)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(("inputs", "stride"), [(12, 1), (6, 2)])
def test_shut_gates_leave_the_shortcut(inputs, stride):
    class Shut(nn.Module):
        def forward(self, x):
            return 0 * x

    unit = ShuffleUnit(inputs, 12, groups=3, first_groups=3, stride=stride, se=Shut(), drop_path=0.0)
    x = torch.rand(2, inputs, 8, 8)
    expected = x if stride == 1 else torch.cat([torch.zeros(2, 6, 4, 4), F.avg_pool2d(x, 3, 2, 1)], dim=1)
    torch.testing.assert_close(unit(x), expected)


def test_gates_of_one_make_the_plain_twin(randomise):
    net = randomise(small()).eval()
    twin = small(attn=None).eval()
    twin.load_state_dict({key: value for key, value in net.state_dict().items() if ".se." not in key}, strict=True)
    x = torch.randn(2, 3, 40, 40)
    assert not torch.allclose(net(x), twin(x))
    for unit in units(net):
        unit.se.gate = nn.Identity()
        nn.init.zeros_(unit.se.fc2.weight)
        nn.init.ones_(unit.se.fc2.bias)
    torch.testing.assert_close(net(x), twin(x))


@pytest.mark.parametrize("stages", [None, (2,), (3, 4), ()])
@pytest.mark.parametrize("attn", ["se", "eca", "cbam", "ge"])
def test_any_block_in_the_stages_that_are_named(attn, stages):
    net = small(attn=attn, stages=stages).eval()
    for number in (2, 3, 4):
        for unit in net.get_submodule(f"stage{number}"):
            assert (unit.se is not None) == (stages is None or number in stages)
    assert net(torch.randn(1, 3, 33, 33)).shape == (1, 5)


def test_channels_are_multiples_of_the_groups():
    expected = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
    for groups, stage2 in expected.items():
        channels = ShuffleNetConfig(groups=groups).channels()
        assert channels == (24, stage2, 2 * stage2, 4 * stage2)
        for width in (0.25, 0.5, 0.75, 1.3, 2.0):
            assert all(c % groups == 0 for c in ShuffleNetConfig(groups=groups, width=width).channels())
            assert small(groups=groups, width=width).eval()(torch.randn(1, 3, 32, 32)).shape == (1, 5)
    assert ShuffleNetConfig(groups=8, width=0.5).channels() == (16, 192, 384, 768)  # the authors' stem there


def test_branches_that_are_added_may_be_left_out():
    net = small(depths=(2, 3, 2), drop_path_rate=0.6)
    assert [unit.drop_path.rate for unit in units(net)] == pytest.approx([0, 0.1, 0, 0.3, 0.4, 0, 0.6])
    unit = net.stage4[1].train()
    unit.drop_path.rate = 1 - 1e-9
    x = torch.rand(4, 240, 3, 3)
    torch.testing.assert_close(unit(x), x)


def test_levels():
    with torch.device("meta"):
        features = create_model("seshufflenet_g3", features_only=True, in_chans=1)
        maps = features(torch.empty(1, 1, 224, 224))
    channels, reductions = (24, 24, 240, 480, 960), (2, 4, 8, 16, 32)
    assert [(info["num_chs"], info["reduction"]) for info in features.feature_info] == list(
        zip(channels, reductions, strict=True)
    )
    assert [m.shape for m in maps] == [(1, c, 224 // r, 224 // r) for c, r in zip(channels, reductions, strict=True)]


def test_maps_are_not_changed_by_what_comes_after(randomise):
    net = randomise(small()).eval()
    features = small(features_only=True).eval()
    features.load_state_dict({key: net.state_dict()[key] for key in features.state_dict()}, strict=True)
    seen = []
    for info in net.feature_info:
        net.get_submodule(info["module"]).register_forward_hook(lambda *call: seen.append(call[-1].clone()))
    x = torch.randn(2, 3, 64, 64)
    net(x)
    maps = features(x)
    assert len(maps) == 5
    for result, wanted in zip(maps, seen, strict=True):
        assert torch.equal(result, wanted)


def test_compile_export_copy_and_memory_format(randomise):
    net = randomise(small()).eval()
    x = torch.randn(2, 3, 32, 32)
    y = net(x)
    torch.compiler.reset()
    torch.testing.assert_close(torch.compile(copy.deepcopy(net), fullgraph=True, backend="eager")(x), y)
    program = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=16)},))
    torch.testing.assert_close(program.module()(x[:1].repeat(3, 1, 1, 1)), y[:1].repeat(3, 1), rtol=1e-4, atol=1e-5)
    last = copy.deepcopy(net).to(memory_format=torch.channels_last)
    features = last.forward_features(x.to(memory_format=torch.channels_last))
    assert features.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last.forward_head(features), y, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (net(x) - y).norm() < 0.05 * y.norm()


def test_every_parameter_learns_with_checkpoints_or_without():
    net = small().train()
    twin = copy.deepcopy(net)
    twin.set_grad_checkpointing()
    x = torch.randn(4, 3, 64, 64)
    for each in (net, twin):
        F.cross_entropy(each(x), torch.arange(4)).backward()
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        assert one.grad.isfinite().all()
        assert torch.equal(one.grad, other.grad)
    assert all(p.grad.abs().sum() > 0 for p in net.parameters() if p.ndim == 4)


def test_convolutions_start_by_what_a_group_sees():
    net = create_model("seshufflenet_g3")
    for name, fan_in in (("stage4.1.conv1", 320), ("stage4.1.conv2", 9), ("stage4.1.conv3", 80)):
        weight = net.get_submodule(name).weight
        assert weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 5}, r"option 'groups' is 5; accepted: 1, 2, 3, 4, 8$"),
        ({"width": 0.0}, r"^width is 0.0; accepted: above 0$"),
        ({"width": -1.0}, r"^width is -1.0; accepted: above 0$"),
        ({"width": float("nan")}, r"^width is nan; accepted: above 0$"),
        (
            {"width": 0.001},
            r"^width is 0.001, which makes the stages \[0, 0, 0, 3\] channels wide; give one that makes",
        ),
        ({"depths": ()}, r"^depths is \[\]; accepted: one number a stage, each 1 or more$"),
        ({"depths": (4, 0, 4)}, r"^depths is \[4, 0, 4\]; accepted"),
        ({"attn": "se", "stages": (1, 2)}, r"^stages is \[1, 2\]; accepted: any of \[2, 3, 4\]"),
        ({"stages": (2,)}, r"attn is none; give attn='se'$"),
        (
            {"depths": (1, 1, 1), "drop_path_rate": 0.1},
            r"^drop_path_rate is 0.1, but depths is \[1, 1, 1\], and the first unit of a stage adds to no short",
        ),
    ],
)
def test_refusals(options, message):
    with torch.device("meta"), pytest.raises(InputError, match=message):
        ShuffleNet(ShuffleNetConfig(**options))
