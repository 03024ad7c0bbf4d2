from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from senet.analysis.complexity import count
from senet.models import create_model
from senet.models.inception_resnet_v2 import InceptionResNetV2Config, Residual

CHANNELS = {3: 320, 4: 1088, 5: 2080}
UNITS = [3] * 10 + [4] * 20 + [5] * 10  # the stage of each
SE = InceptionResNetV2Config(attn="se")


def units(net):
    return [module for module in net.modules() if isinstance(module, Residual)]


def residual(unit, x):
    """What the branches and the 1x1 convolution compute, before block and scaling."""
    if hasattr(unit, "branch2"):
        branches = [unit.branch0(x), unit.branch1(x), unit.branch2(x)]
    else:
        branches = [unit.branch0(x), unit.branch1(x)]
    return unit.conv2d(torch.cat(branches, 1))


def test_is_timms(randomise):
    theirs = randomise(timm.create_model("inception_resnet_v2", num_classes=5))
    ours = create_model("inception_resnet_v2", num_classes=5)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for size in ((96, 96), (107, 131)):
        x = torch.randn(2, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-4)
        trained = []
        for net in (ours.train(), theirs.train()):
            net.zero_grad()
            trained.append(net(x))
            trained[-1].square().mean().backward()
        torch.testing.assert_close(*trained, rtol=1e-4, atol=1e-4)
        for (key, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            tolerance = 1e-3 * other.grad.abs().max().item()
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=tolerance, msg=key)
    for one, other in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_exact_counts():
    with torch.device("meta"):
        theirs = timm.create_model("inception_resnet_v2").eval()
        plain, with_se = create_model("inception_resnet_v2"), create_model("seinception_resnet_v2")
        with FlopCounterMode(display=False) as flops:
            theirs(torch.empty(1, 3, 299, 299))
    cost, cost_se = (count(net, (3, 299, 299)) for net in (plain, with_se))
    assert cost.total.parameters == 55_843_464
    assert round(cost.total.multiply_adds / 1e9, 4) == 13.1558
    assert cost.total.multiply_adds == flops.get_total_flops() // 2
    channels = [CHANNELS[stage] for stage in UNITS]
    weights, biases = sum(2 * c * (c // 16) for c in channels), sum(c + c // 16 for c in channels)
    assert cost_se.attention.parameters == weights + biases
    assert cost_se.total.multiply_adds - cost.total.multiply_adds == weights


@pytest.mark.parametrize("stage", [3, 4, 5])
def test_the_block_is_on_the_residual_before_its_scaling(stage, randomise):
    unit = randomise(Residual(SE, stage, scale=0.1, drop_path=0.0)).double().eval()
    x = torch.randn(2, CHANNELS[stage], 5, 4, dtype=torch.float64)
    with torch.no_grad():
        branch = residual(unit, x)
        recalibrated = branch * unit.se.gates(branch)
        assert not torch.allclose(recalibrated, branch)
        torch.testing.assert_close(unit(x), (x + 0.1 * recalibrated).clamp(min=0))
        # After the scaling it would be the same function, of a first layer with tenfold weights.
        unit.se.fc1.weight.mul_(10)
        after = unit.se(0.1 * branch)
        torch.testing.assert_close(after, 0.1 * recalibrated)


@pytest.mark.parametrize("act", [True, False])
def test_a_unit_without_a_block(act, randomise):
    unit = randomise(Residual(InceptionResNetV2Config(), 5, scale=0.3, drop_path=0.0, act=act)).double().eval()
    x = torch.randn(1, 2080, 2, 3, dtype=torch.float64)
    kept = x.clone()
    with torch.no_grad():
        expected = x + 0.3 * residual(unit, x)
        torch.testing.assert_close(unit(x), expected.clamp(min=0) if act else expected)
    assert torch.equal(x, kept)
    assert (expected < 0).any()


def test_scales_and_the_last_relu():
    with torch.device("meta"):
        found = units(create_model("inception_resnet_v2"))
    assert [unit.scale for unit in found] == [0.17] * 10 + [0.1] * 20 + [0.2] * 9 + [1.0]
    assert [isinstance(unit.act, nn.ReLU) for unit in found] == [True] * 39 + [False]


@pytest.mark.parametrize("stages", [None, (3,), (4,), (5,), (3, 5), ()])
def test_blocks_sit_in_the_residual_units_alone(stages):
    with torch.device("meta"):
        net = create_model("seinception_resnet_v2", stages=stages)
    wanted = [stages is None or stage in stages for stage in UNITS]
    assert [unit.se is not None for unit in units(net)] == wanted
    blocks = [key for key, module in net.named_modules() if key.endswith(".se") and module is not None]
    assert len(blocks) == sum(wanted)


def test_whole_residuals_are_left_out_more_often_towards_the_end():
    with torch.device("meta"):
        rates = [unit.drop_path.rate for unit in units(create_model("inception_resnet_v2", drop_path_rate=0.39))]
    assert rates == pytest.approx([0.01 * index for index in range(40)])


def test_a_residual_that_is_left_out_leaves_the_map(randomise):
    unit = randomise(Residual(SE, 3, scale=0.5, drop_path=0.6)).double().eval()
    x = torch.randn(16, 320, 2, 2, dtype=torch.float64)
    with torch.no_grad():
        recalibrated = unit.se(residual(unit, x))
        unit.drop_path.train()
        y = unit(x)
    left_out = [torch.equal(image, map_.clamp(min=0)) for image, map_ in zip(y, x, strict=True)]
    assert 0 < sum(left_out) < 16
    stays = torch.tensor([0.0 if out else 1 / 0.4 for out in left_out], dtype=torch.float64)[:, None, None, None]
    torch.testing.assert_close(y, (x + 0.5 * stays * recalibrated).clamp(min=0))


def test_backbone_is_timms():
    with torch.device("meta"):
        theirs = timm.create_model("inception_resnet_v2", features_only=True)
        ours = create_model("inception_resnet_v2", features_only=True)
        x = torch.empty(1, 3, 299, 299)
        assert [m.shape for m in ours(x)] == [m.shape for m in theirs(x)]
    assert [info["module"] for info in ours.feature_info] == theirs.feature_info.module_name()
    assert [info["reduction"] for info in ours.feature_info] == theirs.feature_info.reduction()
