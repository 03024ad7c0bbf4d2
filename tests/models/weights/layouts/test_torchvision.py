"""Every network of ours that torchvision also has: its weights load strictly and it computes the same."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops import StochasticDepth

from senet.models import create_model, model_entry
from senet.models.weights.layouts import to_ours

NORMS = {"norm_eps": 1e-3, "norm_momentum": 0.01}

# their name -> ours, with what is not our default
SHARED = {
    **{
        name: (name, {})
        for name in (
            "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
            "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d",
            "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn",
            "inception_v3",
            "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4",
        )
    },
    "wide_resnet50_2": ("resnet50", {"base_width": 128}),
    "wide_resnet101_2": ("resnet101", {"base_width": 128}),
    "mobilenet_v2": ("mobilenetv2_100", {}),
    "mobilenet_v3_large": ("mobilenetv3_large_100", NORMS),
    "mobilenet_v3_small": ("mobilenetv3_small_100", NORMS),
    "efficientnet_b5": ("efficientnet_b5", NORMS),
    "efficientnet_b6": ("efficientnet_b6", NORMS),
    "efficientnet_b7": ("efficientnet_b7", NORMS),
    "regnet_y_400mf": ("regnety_004", {}),
    "regnet_y_800mf": ("regnety_008_tv", {}),
    "regnet_y_1_6gf": ("regnety_016", {}),
    "regnet_y_3_2gf": ("regnety_032", {}),
    "regnet_y_8gf": ("regnety_080_tv", {}),
    "regnet_y_16gf": ("regnety_160", {}),
    "regnet_y_32gf": ("regnety_320", {}),
}  # fmt: skip

# why -> their names
NOT_OURS = {
    "VGG without batch norm": {"vgg11", "vgg13", "vgg16", "vgg19"},
    "RegNetX has no SE": {f"regnet_x_{size}" for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf")},
    "larger than the RegNetYs of the paper": {"regnet_y_128gf"},
    "EfficientNetV2 has fused units": {f"efficientnet_v2_{size}" for size in "sml"},
    "MnasNet, before MobileNetV3": {f"mnasnet{width}" for width in ("0_5", "0_75", "1_0", "1_3")},
    "ShuffleNetV2; the SE paper has the first": {f"shufflenet_v2_x{width}" for width in ("0_5", "1_0", "1_5", "2_0")},
    "GoogLeNet; the SE paper has its successors": {"googlenet"},
    "other convolutional families": {
        "alexnet", "squeezenet1_0", "squeezenet1_1", "densenet121", "densenet161", "densenet169", "densenet201",
        "convnext_tiny", "convnext_small", "convnext_base", "convnext_large",
    },
    "transformers": {
        "vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14", "maxvit_t",
        "swin_t", "swin_s", "swin_b", "swin_v2_t", "swin_v2_s", "swin_v2_b",
    },
}  # fmt: skip


def build(name):
    """Their network with norms and biases as made, weights by He's rule over inputs, and nothing left to chance."""
    options = {"init_weights": False} if name == "inception_v3" else {}
    # RegNet computes its widths with tensors, which the meta device cannot
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        net = torchvision.models.get_model(name, num_classes=7, **options)
    net = net.to_empty(device="cpu")
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(module.weight, std=math.sqrt(2 / module.weight[0].numel()))
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
        elif isinstance(module, (nn.Dropout, StochasticDepth)):
            module.p = 0.0
    return net


def sizes(name, net):
    """Of the images: even and odd, as small as the network takes; one where it is large."""
    if model_entry(name).size == 299:
        return 96, 131
    return (65,) if sum(parameter.numel() for parameter in net.parameters()) > 1e8 else (64, 97)


def assert_same(ours, theirs, *, tolerance):
    """Equal but for rounding, measured against the largest value; and the two images' outputs are not."""
    assert ours.shape == theirs.shape == (2, 7)
    assert ours.isfinite().all()
    scale = theirs.abs().max()
    assert (theirs[0] - theirs[1]).abs().max() > 1e-2 * scale > 0
    assert (ours - theirs).abs().max() <= tolerance * scale


def assert_gradients_are_same(ours, theirs):
    """By the norm of all together, theirs under our names."""
    gradients = {key: parameter.grad for key, parameter in theirs.named_parameters()}
    gradients = to_ours({**theirs.state_dict(), **gradients}, "torchvision", ours)
    error = math.hypot(*((p.grad - gradients[key]).norm().item() for key, p in ours.named_parameters()))
    assert error <= 1e-8 * math.hypot(*(gradients[key].norm().item() for key, _ in ours.named_parameters()))


def test_every_network_of_torchvisions_is_ours_or_there_is_a_reason():
    reasons = [name for names in NOT_OURS.values() for name in names]
    assert sorted([*SHARED, *reasons]) == torchvision.models.list_models(module=torchvision.models)


def both(their_name, randomise):
    """torchvision's network and ours with its weights."""
    name, options = SHARED[their_name]
    theirs = randomise(build(their_name))
    with torch.device("meta"):
        ours = create_model(name, num_classes=7, **options)
    state = to_ours(theirs.state_dict(), "torchvision", ours)
    ours.load_state_dict({key: value.clone() for key, value in state.items()}, strict=True, assign=True)
    if name == "inception_v3":
        theirs.AuxLogits = None  # serves only training, and only on larger images
        theirs.aux_logits = False
    return theirs, ours


def images(size, dtype=torch.float32):
    return torch.randn(2, 3, size, size, dtype=dtype) * torch.tensor([1.0, 3.0])[:, None, None, None]


@pytest.mark.parametrize("their_name", SHARED)
def test_outputs_are_torchvisions(their_name, randomise):
    theirs, ours = both(their_name, randomise)
    for size in sizes(SHARED[their_name][0], ours):
        x = images(size)
        with torch.no_grad():
            assert_same(ours.eval()(x), theirs.eval()(x), tolerance=1e-5)


# In float64 these take gigabytes each; all their layers are in the smaller ones of their families.
LARGE = {
    *("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn", "wide_resnet101_2", "resnext101_32x8d", "resnext101_64x4d"),
    *("regnet_y_16gf", "regnet_y_32gf", "efficientnet_b6", "efficientnet_b7"),
}


@pytest.mark.parametrize("their_name", [name for name in SHARED if name not in LARGE])
def test_gradients_and_statistics_are_torchvisions(their_name, randomise):
    # In float64: in float32, rounding now and then turns a ReLU on or off, and the gradient jumps.
    theirs, ours = (net.double() for net in both(their_name, randomise))
    x = images(sizes(SHARED[their_name][0], ours)[0], torch.float64)
    results = []
    for net in (ours.train(), theirs.train()):
        results.append(net(x))
        results[-1].square().mean().backward()
    assert_same(*results, tolerance=1e-11)
    assert_gradients_are_same(ours, theirs)
    statistics = to_ours(theirs.state_dict(), "torchvision", ours)
    for key, buffer in ours.named_buffers():
        torch.testing.assert_close(
            buffer, statistics[key], rtol=1e-9, atol=1e-10, msg=lambda text, key=key: f"{key}: {text}"
        )
