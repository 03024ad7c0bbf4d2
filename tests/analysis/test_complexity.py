from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from senet.analysis.complexity import Complexity, Cost, StageWeights, count, equation_5
from senet.blocks import CBAM, ECA, SCSE, SqueezeExcite, create_block
from senet.errors import InputError
from senet.models import create_model

IMAGE = (3, 224, 224)


def counted(name, size=IMAGE, **options):
    with torch.device("meta"):
        net = create_model(name, **options)
    return count(net, size)


def test_costs_add_up():
    assert Cost(1, 2, 3, 4, 5) + Cost(10, 20, 30, 40, 50) == Cost(11, 22, 33, 44, 55)
    assert sum([Cost(parameters=2), Cost(scaled=3)], Cost()) == Cost(parameters=2, scaled=3)


@pytest.mark.parametrize(
    ("name", "giga"),
    [
        ("resnet50", 4.0892),
        ("resnet101", 7.8014),
        ("resnet152", 11.5136),
        ("resnext50_32x4d", 4.2305),
        ("seresnext50_32x4d", 4.2330),
        ("resnext101_32x4d", 7.9700),
        ("seresnet50", 4.0917),
    ],
)
def test_multiply_adds_of_published_networks(name, giga):
    assert counted(name).total.multiply_adds / 1e9 == pytest.approx(giga, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "weights"), [("seresnet50", 2_514_944), ("seresnet101", 4_743_168), ("seresnet152", 6_578_176)]
)
def test_blocks_cost_what_the_paper_says(name, weights):
    """Sec. 4: multiply-adds of the excitations are their weights, and they are all that is added."""
    se, plain = counted(name), counted(name.removeprefix("se"))
    assert se.attention.multiply_adds == weights
    assert se.total.multiply_adds - plain.total.multiply_adds == weights
    assert se.attention.parameters == se.total.parameters - plain.total.parameters
    assert se.total.activations - plain.total.activations == se.attention.activations
    assert plain.attention == Cost()
    assert plain.sites == {}


def test_elements_of_seresnet50():
    cost = counted("seresnet50")
    sites = {(256, 56): 3, (512, 28): 4, (1024, 14): 6, (2048, 7): 3}
    elements = sum(n * c * side**2 for (c, side), n in sites.items())
    assert elements == 5_519_360
    assert cost.attention.squeezed == cost.total.squeezed == elements
    assert cost.attention.scaled == cost.total.scaled == elements
    assert cost.attention.activations == sum(n * (c + c // 16) for (c, _), n in sites.items())
    assert cost.attention.parameters == 2_530_992


def test_activations_are_pycls_definition():
    """11.1 M for ResNet-50: what its convolutions put out, and the classifier."""
    maps = 64 * 112**2
    side, inputs = 56, 64
    for planes, depth in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for unit in range(depth):
            before = side
            side = side // 2 if unit == 0 and inputs > 64 else side
            maps += planes * before**2 + planes * side**2 + 4 * planes * side**2
            maps += 4 * planes * side**2 if unit == 0 else 0
        inputs = 4 * planes
    assert counted("resnet50").total.activations == maps + 1000


def test_no_squeeze_is_the_papers_price():
    """Table 16: 3.86 to 4.27 G."""
    added = counted("seresnet50", attn_options={"squeeze": "none"}).attention
    assert added.multiply_adds / 1e6 == pytest.approx(411.0, abs=0.05)
    assert (added.squeezed, added.scaled) == (0, 5_519_360)


@pytest.mark.parametrize("name", ["seresnet50", "resnet18", "cifar_sepreresnet164"])
def test_parts_make_the_whole(name):
    net = create_model(name, **({"depths": (1, 1, 1)} if name.startswith("cifar") else {}))
    cost = count(net, (3, 32, 32))
    assert list(cost.stages) == list(cost.stage_attention) == [child for child, _ in net.named_children()]
    assert sum(cost.stages.values(), Cost()) == cost.total
    assert sum(cost.stage_attention.values(), Cost()) == sum(cost.sites.values(), Cost()) == cost.attention
    assert list(cost.sites) == [site for site, module in net.named_modules() if isinstance(module, SqueezeExcite)]


def test_the_last_stage_holds_most_block_parameters():
    """62.5 % of the weights of all blocks; the paper's Sec. 4 leaves these out to save most of the cost."""
    cost = counted("seresnet50", attn_options={"bias": False})
    assert cost.stage_attention["layer4"].parameters / cost.attention.parameters == pytest.approx(0.6254, abs=1e-4)


def test_a_small_network_by_hand():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        SqueezeExcite(8, hidden_channels=2),
        nn.Conv2d(8, 16, 3, groups=4, bias=False),
        CBAM(16, hidden_channels=4, spatial_kernel=3),
        nn.Flatten(),
        nn.Linear(16 * 2 * 3, 5),
    )
    cost = count(net, (3, 8, 10))  # maps: 8x10, 4x5, 2x3
    first, se = 8 * 4 * 5, 2 * 8 * 2
    grouped, cbam_mlp, cbam_conv = 16 * 2 * 3, 2 * 16 * 4, 2 * 9
    assert cost.stages["0"] == Cost(3 * 8 * 9 + 8, first * 3 * 9, first)
    assert cost.stages["1"] == Cost(parameters=16, statistics=16)
    assert cost.stages["2"] == Cost(se + 2 + 8, se, 2 + 8, first, first, gates=8)
    assert cost.stages["3"] == Cost(16 * 2 * 9, grouped * 2 * 9, grouped)
    assert cost.stages["4"] == Cost(
        parameters=cbam_mlp + 4 + 16 + cbam_conv + 2,
        multiply_adds=2 * cbam_mlp + cbam_conv * 2 * 3,
        activations=2 * (4 + 16) + 2 * 3,
        squeezed=2 * grouped,
        scaled=2 * grouped,
        statistics=2,
        gates=2 * 16,
    )
    assert cost.stages["6"] == Cost(grouped * 5 + 5, grouped * 5, 5)
    assert cost.attention == cost.stages["2"] + cost.stages["4"]
    assert set(cost.sites) == {"2", "4"}


def test_a_block_alone_is_its_own_site():
    cost = count(ECA(64), (64, 7, 5))
    assert cost.sites == {"": cost.total}
    assert cost.total == Cost(3, 3 * 64, 64, 64 * 35, 64 * 35, gates=64)


def test_spatial_gates_squeeze_nothing_and_scale():
    cost = count(SCSE(8, bias=False), (8, 5, 7)).total
    assert (cost.squeezed, cost.scaled) == (8 * 35, 2 * 8 * 35)


def test_other_peoples_networks():
    import timm

    cost = count(timm.create_model("resnet18"), IMAGE)
    assert cost.total.parameters == 11_689_512
    assert cost.total.multiply_adds == 1_814_073_344
    assert cost.total == counted("resnet18").total
    assert cost.sites == {}


def test_shared_weights_are_counted_once_and_run_twice():
    layer = nn.Linear(7, 7)
    cost = count(nn.Sequential(layer, nn.ReLU(), layer), (7, 1, 7))
    assert cost.total == Cost(56, 2 * 7 * 49, 2 * 49)


def test_leaves_the_network_alone():
    net = create_model("cifar_seresnet8").train()
    net.bn1.eval()
    calls = []
    handle = net.layer1.register_forward_hook(lambda *args: calls.append(1))
    before = copy.deepcopy(net.state_dict())
    modes = [module.training for module in net.modules()]
    tensors = [id(p) for p in net.parameters()]
    hooks = [len(module._forward_hooks) for module in net.modules()]
    cost = count(net, (3, 32, 32))
    assert isinstance(cost, Complexity)
    assert calls == []
    assert [module.training for module in net.modules()] == modes
    assert [id(p) for p in net.parameters()] == tensors
    assert [len(module._forward_hooks) for module in net.modules()] == hooks
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert {p.device.type for p in net.parameters()} == {"cpu"}
    net(torch.randn(2, 3, 32, 32))
    assert calls == [1]
    handle.remove()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_any_dtype(dtype):
    net = create_model("cifar_seresnet8")
    assert count(net.to(dtype), (3, 32, 32)) == count(net.float(), (3, 32, 32))


@pytest.mark.parametrize("size", [(224, 224), (3, 0, 224), (3, 32, -1), ()])
def test_refusals(size):
    with pytest.raises(InputError, match=r"^input_size is .*; accepted: channels, height and width, each 1 or more$"):
        count(create_model("cifar_resnet8"), size)


def test_sums_are_counted_where_they_are_made():
    cost = counted("resnet50", size=(3, 64, 64))
    maps = {
        "layer1": 3 * 256 * 16 * 16,
        "layer2": 4 * 512 * 8 * 8,
        "layer3": 6 * 1024 * 4 * 4,
        "layer4": 3 * 2048 * 2 * 2,
    }
    assert {name: cost.stages[name].summed for name in maps} == maps
    assert cost.total.summed == sum(maps.values())


def test_statistics_are_those_of_the_norms():
    assert counted("resnet50").total.statistics == 53_120


@pytest.mark.parametrize(
    ("block", "options", "parameters", "multiply_adds"),
    [  # C = 32 channels of 6 x 5 positions
        ("srm", {}, 4 * 32, 2 * 32),
        ("gct", {}, 3 * 32, 0),
        ("simam", {}, 0, 0),
        ("coord", {}, 32 * 8 + 8 + 2 * 8 + 2 * (8 * 32 + 32), 2 * 8 * 32 * (6 + 5)),
        ("gc", {}, 33 + 2 * 2 * 32 + 2 + 32 + 2 * 2, 2 * 32 * 30 + 2 * 2 * 32),
        ("fca", {}, 2 * 2 * 32, 32 * 49 + 32 * 7 + 2 * 2 * 32),  # on a grid of 7 x 7
        (
            "gsop",
            {"hidden_channels": 4},
            32 * 4 + 4 + 2 * 2 * 4 + 16 * 4 + 16 + 16 * 32 + 32,
            32 * 4 * 30 + 4 * 4 * 30 + 16 * 4 + 16 * 32,
        ),
        ("sk", {}, 2 * (9 * 32 + 2 * 32) + 32 * 32 + 2 * 32 + 32 * 64, 2 * 9 * 32 * 30 + 32 * 32 + 32 * 64),
        (
            "bam",
            {},
            2 * 2 * 32 + 2 + 4 + 32 + 2 * 32 + 2 + 2 * (2 * 2 * 9 + 2) + 3 * 4 + 3,
            2 * 2 * 32 + (2 * 32 + 2 * 2 * 2 * 9 + 2) * 30,
        ),
    ],
)
def test_kin_cost_what_their_formulas_say(block, options, parameters, multiply_adds):
    cost = count(create_block(block, 32, options), (32, 6, 5)).total
    assert (cost.parameters, cost.multiply_adds) == (parameters, multiply_adds)


def test_a_map_plus_a_number_is_no_sum_of_maps():
    assert count(create_block("simam", 8), (8, 6, 5)).total.summed == 0
    assert count(create_block("gc", 8), (8, 6, 5)).total.summed == 8 * 30


def meta(name, **options):
    with torch.device("meta"):
        return create_model(name, **options)


@pytest.mark.parametrize("r", [2, 16])
def test_equation_5_by_hand(r):
    stages = equation_5(meta("seresnet50", attn_options={"reduction": r}))
    assert [(s.stage, s.blocks, s.channels, s.reduction) for s in stages] == [
        (f"layer{i}", blocks, channels, r)
        for i, (blocks, channels) in enumerate([(3, 256), (4, 512), (6, 1024), (3, 2048)], 1)
    ]
    assert [s.weights for s in stages] == [
        2 * 3 * 256**2 // r,
        2 * 4 * 512**2 // r,
        12 * 1024**2 // r,
        6 * 2048**2 // r,
    ]


def test_equation_5_is_the_count_less_the_biases():
    """The paper's 2,514,944 of SE-ResNet-50 at r = 16; each block has C + C / r biases more."""
    stages = equation_5(meta("seresnet50"))
    assert sum(s.weights for s in stages) == 2_514_944
    for s in stages:
        assert s.parameters - s.weights == s.blocks * (s.channels + s.channels // 16)
    bare = equation_5(meta("seresnet50", attn_options={"bias": False}))
    assert [s.parameters for s in bare] == [s.weights for s in bare] == [s.weights for s in stages]


@pytest.mark.parametrize("name", ["seresnet18", "efficientnet_b0", "mobilenetv3_small_100", "sevgg11_bn"])
def test_equation_5_holds_for_what_was_built(name):
    """Also where widths were rounded, or come from elsewhere than the map: weights are the blocks' multiply-adds."""
    with torch.device("meta"):
        net = create_model(name)
    cost, stages = count(net, IMAGE), equation_5(net)
    assert sum(s.weights for s in stages) == cost.attention.multiply_adds
    assert sum(s.parameters for s in stages) == cost.attention.parameters
    for stage, part in cost.stage_attention.items():
        assert sum(s.parameters for s in stages if s.stage == stage) == part.parameters


def test_equation_5_shows_a_width_that_was_rounded():
    first = equation_5(meta("seresnet18"))[0]  # 64 channels, 8 hidden: timm's rounding
    assert first == StageWeights("layer1", 2, 64, 8.0, 2 * 2 * 64 * 8, 2 * (2 * 64 * 8 + 64 + 8))


def test_equation_5_speaks_of_se_alone():
    assert equation_5(meta("resnet18")) == ()
    with pytest.raises(InputError, match=r"equation 5 counts the two layers of SE, but layer1\.0\.se is ECA"):
        equation_5(meta("resnet18", attn="eca"))
