"""The names in pytorchcv 0.0.74, ``pytorchcv/models``."""

from __future__ import annotations

from senet.models.regnet import RegNet
from senet.models.resnet import ResNet
from senet.models.weights.layouts.names import Layout, Table, lines

__all__ = ["PYTORCHCV"]

_UNIT = "features.stage{s}.unit{u+1}"
_BRANCH = (
    ("layer{s}.{u}.conv{k}", f"{_UNIT}.body.conv{{k}}.conv"),
    ("layer{s}.{u}.bn{k}", f"{_UNIT}.body.conv{{k}}.bn"),
)
_UNITS = (
    *_BRANCH,
    ("layer{s}.{u}.se.fc{k}", f"{_UNIT}.se.conv{{k}}"),
    ("layer{s}.{u}.downsample.0", f"{_UNIT}.identity_conv.conv"),
    ("layer{s}.{u}.downsample.1", f"{_UNIT}.identity_conv.bn"),
)

_IMAGENET = lines(
    ("conv1", "features.init_block.conv.conv"),
    ("bn1", "features.init_block.conv.bn"),
    *_UNITS,
    ("fc", "output"),
)
_SENET = lines(
    ("conv1.0", "features.init_block.conv1.conv"),
    ("conv1.1", "features.init_block.conv1.bn"),
    ("conv1.3", "features.init_block.conv2.conv"),
    ("conv1.4", "features.init_block.conv2.bn"),
    ("conv1.6", "features.init_block.conv3.conv"),
    ("bn1", "features.init_block.conv3.bn"),
    *_UNITS,
    ("fc", "output.fc"),
)
_CIFAR = lines(
    ("conv1", "features.init_block.conv"),
    ("bn1", "features.init_block.bn"),
    *_UNITS,
    ("fc", "output"),
)
_PREACT = lines(
    ("conv1", "features.init_block"),
    *_BRANCH,
    ("layer{s}.{u}.downsample", f"{_UNIT}.identity_conv"),
    ("norm", "features.post_activ.bn"),
    ("fc", "output"),
)
_REGNET_UNIT = "features.stage{s}.unit{u}"
_REGNET = lines(
    ("stem.{part:conv|bn}", "features.init_block.{part}"),
    ("s{s}.b{u}.conv{k}.{part:conv|bn}", f"{_REGNET_UNIT}.body.conv{{k}}.{{part}}"),
    ("s{s}.b{u}.se.fc{k}", f"{_REGNET_UNIT}.body.se.conv{{k}}"),
    ("s{s}.b{u}.downsample.{part:conv|bn}", f"{_REGNET_UNIT}.identity_conv.{{part}}"),
    ("head.fc", "output"),
)

_POSTACT = {"unit": ("basic", "bottleneck")}
_PREACTED = {"unit": ("preact_basic", "preact_bottleneck")}
_NEEDS = {"stem_pool": ("padded",), "placement": ("standard",)}

PYTORCHCV = Layout(
    source="osmr/pytorchcv 0.0.74, pytorchcv/models: resnet.py, seresnet.py, resnext.py, seresnext.py, senet.py, "
    "resnet_cifar.py, seresnet_cifar.py, preresnet_cifar.py, wrn_cifar.py, regnet.py",
    note="all its blocks have rounding=paper",
    doubt="its resnet50, 101, 152 and seresnet50, 101, 152 have stride_in=1x1, those whose names end in b and its "
    "CIFAR preresnet164bn stride_in=3x3",
    tables=(
        Table(ResNet, _IMAGENET, {**_POSTACT, "stem": ("imagenet",)}, _NEEDS),
        Table(ResNet, _SENET, {**_POSTACT, "stem": ("deep",)}, {**_NEEDS, "stride_in": ("3x3",)}),
        Table(ResNet, _CIFAR, {**_POSTACT, "stem": ("cifar",)}, {**_NEEDS, "shortcut": ("projection",)}),
        Table(ResNet, _PREACT, {**_PREACTED, "stem": ("cifar",)}, {"attn": (None,)}),
        Table(RegNet, _REGNET),
    ),
)
