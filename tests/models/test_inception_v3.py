from __future__ import annotations

import itertools

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import inception_v3

from senet.analysis.complexity import count
from senet.models import create_model

WIDTHS = {
    "Mixed_5b": 256, "Mixed_5c": 288, "Mixed_5d": 288,
    "Mixed_6a": 768, "Mixed_6b": 768, "Mixed_6c": 768, "Mixed_6d": 768, "Mixed_6e": 768,
    "Mixed_7a": 1280, "Mixed_7b": 2048, "Mixed_7c": 2048,
}  # fmt: skip


def of_torchvision(**options):
    return inception_v3(weights=None, init_weights=False, num_classes=5, dropout=0.0, **options)


def without_auxiliary(state):
    return {key: value for key, value in state.items() if not key.startswith("AuxLogits.")}


def results(net, x):
    """Class scores in evaluation, then in training with the gradients of all parameters but the auxiliary ones."""
    with torch.no_grad():
        evaluated = net.eval()(x)
    trained = net.train()(x)
    trained = trained[0] if isinstance(trained, tuple) else trained
    trained.square().mean().backward()
    grads = {key: p.grad for key, p in net.named_parameters() if not key.startswith("AuxLogits.")}
    statistics = {key: b for key, b in net.named_buffers() if not key.startswith("AuxLogits.")}
    return evaluated, trained, grads, statistics


def assert_same(ours, theirs):
    for one, other in zip(ours[:2], theirs[:2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * other.abs().max().item())
    for one, other in zip(ours[2:], theirs[2:], strict=True):
        assert one.keys() == other.keys()
        for key in one:
            tolerance = 1e-3 * other[key].abs().max().item()
            torch.testing.assert_close(one[key], other[key], rtol=1e-3, atol=tolerance, msg=key)


@pytest.mark.parametrize("size", [(96, 96), (107, 131)])
def test_is_timms(size, randomise):
    theirs = randomise(timm.create_model("inception_v3", aux_logits=False, num_classes=5))
    ours = create_model("inception_v3", num_classes=5)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = torch.randn(2, 3, *size)
    assert_same(results(ours, x), results(theirs, x))


# In training its auxiliary classifier takes no smaller images than 299.
@pytest.mark.parametrize(("size", "auxiliary"), [((96, 96), False), ((301, 299), True)])
def test_is_torchvisions_without_the_auxiliary_classifier(size, auxiliary, randomise):
    theirs = randomise(of_torchvision(aux_logits=auxiliary))
    assert auxiliary == any(key.startswith("AuxLogits.") for key in theirs.state_dict())
    ours = create_model("inception_v3", num_classes=5)
    ours.load_state_dict(without_auxiliary(theirs.state_dict()), strict=True)
    x = torch.randn(2, 3, *size)
    assert_same(results(ours, x), results(theirs, x))


def test_torchvisions_transform_of_the_input_is_another_mean_and_std(randomise):
    theirs = randomise(of_torchvision(aux_logits=True, transform_input=True)).eval()
    ours = create_model("inception_v3", num_classes=5).eval()
    ours.load_state_dict(without_auxiliary(theirs.state_dict()), strict=True)
    image = torch.rand(1, 3, 96, 96)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = theirs((image - mean) / std)
        found = ours((image - 0.5) / 0.5)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_exact_counts():
    with torch.device("meta"):
        theirs = timm.create_model("inception_v3", aux_logits=False).eval()
        plain, with_se = create_model("inception_v3"), create_model("seinception_v3")
        with FlopCounterMode(display=False) as flops:
            theirs(torch.empty(1, 3, 299, 299))
    cost, cost_se = (count(net, (3, 299, 299)) for net in (plain, with_se))
    assert cost.total.parameters == sum(p.numel() for p in theirs.parameters()) == 23_834_568
    assert cost.total.multiply_adds == flops.get_total_flops() // 2
    weights = sum(2 * c * (c // 16) for c in WIDTHS.values())
    biases = sum(c + c // 16 for c in WIDTHS.values())
    assert cost_se.attention.parameters == weights + biases
    assert cost_se.total.multiply_adds - cost.total.multiply_adds == weights
    assert list(cost_se.sites) == [f"{name}.se" for name in WIDTHS]


def test_the_block_scales_the_whole_of_each_module(randomise):
    net = randomise(create_model("seinception_v3", num_classes=5)).eval()
    twin = create_model("inception_v3", num_classes=5).eval()
    twin.load_state_dict({key: v for key, v in net.state_dict().items() if ".se." not in key}, strict=True)
    maps = {}
    for name in ("Pool2", *WIDTHS):
        twin.get_submodule(name).register_forward_hook(lambda *args, name=name: maps.update({name: args[-1]}))
    for name in WIDTHS:
        se = net.get_submodule(f"{name}.se")
        se.gate = nn.Identity()
        nn.init.zeros_(se.fc2.weight)
        nn.init.ones_(se.fc2.bias)
    x = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(net(x), twin(x))
        for before, name in itertools.pairwise(("Pool2", *WIDTHS)):
            assert maps[name].shape[1] == WIDTHS[name]
            nn.init.constant_(net.get_submodule(f"{name}.se.fc2").bias, 3.0)
            torch.testing.assert_close(net.get_submodule(name)(maps[before]), 3 * maps[name])


@pytest.mark.parametrize(("stages", "digits"), [((3,), "5"), ((4,), "6"), ((5,), "7"), ((3, 5), "57"), ((), "")])
def test_stages(stages, digits):
    with torch.device("meta"):
        net = create_model("seinception_v3", stages=stages)
    with_block = [name for name in WIDTHS if net.get_submodule(name).se is not None]
    assert with_block == [name for name in WIDTHS if name[6] in digits]


def test_backbone_is_timms():
    with torch.device("meta"):
        theirs = timm.create_model("inception_v3", features_only=True)
        ours = create_model("inception_v3", features_only=True)
        x = torch.empty(1, 3, 299, 299)
        assert [m.shape for m in ours(x)] == [m.shape for m in theirs(x)]
    assert [info["module"] for info in ours.feature_info] == theirs.feature_info.module_name()
    assert [info["reduction"] for info in ours.feature_info] == theirs.feature_info.reduction()


def test_starts_as_timms():
    net = create_model("seinception_v3")
    for weight in (net.Mixed_6e.branch7x7_2.conv.weight, net.Mixed_7c.se.fc1.weight, net.fc.weight):
        assert weight.std().item() == pytest.approx(0.1, rel=0.02)
        assert abs(weight.mean().item()) < 0.002
