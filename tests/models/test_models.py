"""Every network of ours that timm also has under the name: its weights load strictly and it computes the same."""

from __future__ import annotations

import pytest
import timm
import torch

from senet.models import create_model, list_models, model_entry

SHARED = sorted(set(list_models()) & set(timm.list_models()))


def pair(name, randomise, **options):
    """timm's network and ours with its weights."""
    theirs = randomise(timm.create_model(name, num_classes=7, **options))
    ours = create_model(name, num_classes=7, **options)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, ours


def assert_same(ours, theirs, *, tolerance):
    """Equal but for rounding, measured against the largest value."""
    assert ours.shape == theirs.shape
    assert ours.isfinite().all()
    scale = theirs.abs().max().item()
    assert scale > 0
    assert (ours - theirs).abs().max().item() <= tolerance * scale


def test_timm_has_most_of_them():
    assert len(SHARED) > 40
    assert {"resnet18", "seresnet50", "senet154", "seresnext101_64x4d"} <= set(SHARED)


def sizes(name):
    return (96, 131) if model_entry(name).size == 299 else (64, 97)


@pytest.mark.parametrize("name", SHARED)
def test_outputs_are_timms(name, randomise):
    theirs, ours = pair(name, randomise)
    for size in sizes(name):
        x = torch.randn(2, 3, size, size)
        with torch.no_grad():
            assert_same(ours.eval()(x), theirs.eval()(x), tolerance=1e-5)


# In float64 these take gigabytes each; all their layers are in the smaller ones of their families.
LARGE = {
    *("senet154", "regnety_160", "regnety_320", "efficientnet_b7", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    *("resnext101_32x8d", "resnext101_64x4d", "seresnext101_32x8d", "seresnext101_64x4d"),
}


@pytest.mark.parametrize("name", [name for name in SHARED if name not in LARGE])
def test_gradients_and_statistics_are_timms(name, randomise):
    # In float64: in float32, rounding now and then turns a ReLU on or off, and the gradient jumps.
    theirs, ours = (net.double() for net in pair(name, randomise))
    x = torch.randn(2, 3, sizes(name)[0], sizes(name)[0], dtype=torch.float64)
    results = []
    for net in (ours.train(), theirs.train()):
        torch.manual_seed(1)
        results.append(net(x))
        results[-1].square().mean().backward()
    assert_same(*results, tolerance=1e-11)
    pairs = list(zip(ours.parameters(), theirs.parameters(), strict=True))
    error = sum((one.grad - other.grad).square().sum() for one, other in pairs).sqrt()
    assert error <= 1e-8 * sum(other.grad.square().sum() for _, other in pairs).sqrt()
    for (key, one), other in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", SHARED)
def test_what_a_backbone_gives_is_timms(name):
    with torch.device("meta"):
        theirs = timm.create_model(name, features_only=True)
        ours = create_model(name, features_only=True)
        x = torch.empty(1, 3, 224, 224)
        expected, found = theirs(x), ours(x)
    assert [m.shape for m in found] == [m.shape for m in expected]
    for one, other in zip(ours.feature_info, theirs.feature_info.info, strict=True):
        assert (one["num_chs"], one["reduction"]) == (other["num_chs"], other["reduction"])


@pytest.mark.parametrize("name", sorted(set(list_models()) - set(SHARED)))
def test_every_other_network_learns_from_a_step(name):
    size = {32: 32, 299: 96}.get(model_entry(name).size, 64)
    net = create_model(name, num_classes=3).train()
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    torch.nn.functional.cross_entropy(net(torch.randn(2, 3, size, size)), torch.tensor([0, 2])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    optimizer.step()
    moved = sum(not torch.equal(p, was) for p, was in zip(net.parameters(), before, strict=True))
    assert moved > len(before) / 2
