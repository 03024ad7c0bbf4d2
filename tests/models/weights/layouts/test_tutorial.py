"""Networks as tutorials write them down: a Korean review's whole network, and blocks of ``gap`` and ``mlp``."""

import math

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from senet import SqueezeExcite
from senet.errors import InputError
from senet.models import create_model
from senet.models.weights.convert import convert
from senet.models.weights.layouts import detect, from_ours, to_ours

WIDTHS = (64, 128, 256, 512)


def step(inputs, outputs, size, stride=1, groups=1):
    """Convolution, norm, ReLU: the children 0, 1 and 2 of whatever they are part of."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Gate(nn.Module):
    """Of the review: gives the gates alone, the unit multiplies."""

    def __init__(self, channels):
        super().__init__()
        narrow = channels // 16
        self.excitation = nn.Sequential(nn.Linear(channels, narrow), nn.ReLU(), nn.Linear(narrow, channels))

    def forward(self, u):
        return self.excitation(u.mean((2, 3))).sigmoid()[..., None, None]


class ReviewUnit(nn.Module):
    """Three convolutions, the second with the stride; ``residual`` is what it calls the shortcut."""

    def __init__(self, inputs, width, outputs, stride, groups, se):
        super().__init__()
        self.conv1, self.conv2 = step(inputs, width, 1), step(width, width, 3, stride, groups)
        self.conv3 = step(width, outputs, 1)[:2]
        self.residual = step(inputs, outputs, 1, stride)[:2] if inputs != outputs else nn.Sequential()
        if se:
            self.se_block = Gate(outputs)

    def forward(self, x):
        u = self.conv3(self.conv2(self.conv1(x)))
        scaled = u * self.se_block(u) if hasattr(self, "se_block") else u
        return (scaled + self.residual(x)).relu()


class Review(nn.Module):
    """Stages by the paper's numbers, ``conv1`` to ``conv5``; a classifier for ten classes."""

    def __init__(self, depths, groups=1, se=True):
        super().__init__()
        self.conv1 = nn.Sequential(*step(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1))
        inputs = 64
        for stage, (depth, narrow) in enumerate(zip(depths, WIDTHS, strict=True)):
            width, units = narrow * (2 if groups > 1 else 1), []
            for number in range(depth):
                stride = 2 if stage and not number else 1
                units.append(ReviewUnit(inputs, width, 4 * narrow, stride, groups, se))
                inputs = 4 * narrow
            self.add_module(f"conv{stage + 2}", nn.Sequential(*units))
        self.fc = nn.Linear(2048, 10)

    def forward(self, x):
        for stage in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            x = stage(x)
        return self.fc(x.mean((2, 3)))


def on_meta(build, *args, **options):
    with torch.device("meta"):
        return build(*args, **options)


@pytest.fixture(scope="module")
def review(tmp_path_factory):
    """The review's SE-ResNet-50 with weights that let signals through, and its file."""
    torch.manual_seed(0)
    net = Review((3, 4, 6, 3)).eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.normal_(std=math.sqrt(2 / module.weight[0].numel()))
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    tensor.uniform_(0.5, 1.0)
                for tensor in (module.bias, module.running_mean):
                    tensor.uniform_(-0.5, 0.5)
    path = tmp_path_factory.mktemp("review") / "best.pth"
    torch.save({"model_state_dict": net.state_dict(), "epoch": 30}, path)
    return net, path


def agree(ours, theirs):
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted, found = theirs(x), ours.eval()(x)
    assert wanted.std() > 1e-3 * wanted.abs().max() > 0
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * wanted.abs().max().item())


def test_its_file_loads_and_gives_its_outputs(review):
    theirs, path = review
    ours = create_model("seresnet50", num_classes=10, pretrained=str(path))
    assert (ours.loaded.layout, ours.loaded.missing, ours.loaded.dropped) == ("tutorial", (), ())
    agree(ours, theirs)


def test_it_converts_to_ours_and_back(review, tmp_path):
    theirs, path = review
    done = convert(path, tmp_path / "ours.safetensors", "seresnet50")
    assert (done.model, done.layout, done.to) == ("seresnet50", "tutorial", "senet")
    agree(create_model("seresnet50", num_classes=10, pretrained=str(tmp_path / "ours.safetensors")), theirs)

    convert(tmp_path / "ours.safetensors", tmp_path / "back.safetensors", to="tutorial")
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == theirs.state_dict().keys()
    assert all(torch.equal(back[key], value) for key, value in theirs.state_dict().items())


@pytest.mark.parametrize(
    ("name", "depths", "groups"),
    [
        ("seresnet101", (3, 4, 23, 3), 1),
        ("seresnet152", (3, 8, 36, 3), 1),
        ("seresnext50_32x4d", (3, 4, 6, 3), 32),
        ("seresnext101_32x4d", (3, 4, 23, 3), 32),
        ("resnet50", (3, 4, 6, 3), 1),
    ],
)
def test_its_other_networks_have_these_names_and_shapes(name, depths, groups):
    net = on_meta(create_model, name, num_classes=10)
    theirs = on_meta(Review, depths, groups, name.startswith("se")).state_dict()
    assert detect(theirs, net) == "tutorial"
    found = from_ours(net.state_dict(), "tutorial", net)
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in theirs.items()}
    assert to_ours(theirs, "tutorial", net).keys() == net.state_dict().keys()


@pytest.mark.parametrize("name", ["seresnet50_caffe", "seresnet18"])
def test_what_computes_something_else_is_refused(review, name):
    net = on_meta(create_model, name, num_classes=10)
    with pytest.raises(InputError, match=r"have (unit=bottleneck|stem_pool=padded, stride_in=3x3)"):
        to_ours(review[0].state_dict(), "tutorial", net)


class GapAndMLP(nn.Module):
    """The block of those that name the stages by their layers."""

    def __init__(self, channels, reduction=16):
        super().__init__()
        self.gap = nn.AdaptiveAvgPool2d(1)
        narrow = channels // reduction
        self.mlp = nn.Sequential(
            nn.Linear(channels, narrow, bias=False), nn.ReLU(), nn.Linear(narrow, channels, bias=False), nn.Sigmoid()
        )

    def forward(self, x):
        return x * self.mlp(self.gap(x).flatten(1))[..., None, None]


def test_a_block_of_gap_and_mlp_loads_as_it_is():
    theirs, ours = GapAndMLP(64), SqueezeExcite(64, bias=False)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 64, 7, 7)
    torch.testing.assert_close(ours(x), theirs(x))
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"fc1.bias\", \"fc2.bias\""):
        SqueezeExcite(64).load_state_dict(theirs.state_dict(), strict=True)
