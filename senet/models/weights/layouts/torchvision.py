"""The names in torchvision 0.29, ``torchvision/models``."""

from __future__ import annotations

from senet.models.inception_v3 import InceptionV3
from senet.models.mobile import MobileNet, MobileNetV3
from senet.models.regnet import RegNet
from senet.models.resnet import ResNet
from senet.models.vgg import VGG
from senet.models.weights.layouts.names import PLAIN, REST, Layout, Table, lines

__all__ = ["TORCHVISION"]

_VGG = lines(
    ("pre_logits.fc1", "classifier.0", True),
    ("pre_logits.fc2", "classifier.3", True),
    ("head.fc", "classifier.6"),
    (PLAIN, REST),
)

_STEM = (("conv_stem", "features.0.0"), ("bn1", "features.0.1"))

_MOBILENET_V2 = lines(
    *_STEM,
    ("blocks.{s:0}.{u:0}.conv_dw", "features.1.conv.0.0"),
    ("blocks.{s:0}.{u:0}.bn1", "features.1.conv.0.1"),
    ("blocks.{s:0}.{u:0}.conv_pw", "features.1.conv.1"),
    ("blocks.{s:0}.{u:0}.bn2", "features.1.conv.2"),
    ("blocks.{s}.{u}.conv_pw", "features.{n+1}.conv.0.0"),
    ("blocks.{s}.{u}.bn1", "features.{n+1}.conv.0.1"),
    ("blocks.{s}.{u}.conv_dw", "features.{n+1}.conv.1.0"),
    ("blocks.{s}.{u}.bn2", "features.{n+1}.conv.1.1"),
    ("blocks.{s}.{u}.conv_pwl", "features.{n+1}.conv.2"),
    ("blocks.{s}.{u}.bn3", "features.{n+1}.conv.3"),
    ("conv_head", "features.18.0"),
    ("bn2", "features.18.1"),
    ("classifier", "classifier.1"),
)


def _mobilenet_v3(last_stage: int) -> Table:
    parts = lines(
        *_STEM,
        (f"blocks.{{s:{last_stage}}}.{{u}}.conv", "features.{n+1}.0"),
        (f"blocks.{{s:{last_stage}}}.{{u}}.bn1", "features.{n+1}.1"),
        ("blocks.{s}.{u}.se.fc{k}", "features.{n+1}.block.{i}.fc{k}"),
        (r"blocks.{s}.{u}.{conv:conv_\w+}", "features.{n+1}.block.{i}.0"),
        ("blocks.{s}.{u}.bn{k}", "features.{n+1}.block.{i}.1"),
        ("conv_head", "classifier.0", True),
        ("classifier", "classifier.3"),
    )
    return Table(MobileNetV3, parts, {"head_width": ({6: 1280, 5: 1024}[last_stage],)}, {"norm_eps": (1e-3,)})


_EFFICIENTNET = lines(
    *_STEM,
    ("blocks.{s}.{u}.se.fc{k}", "features.{s+1}.{u}.block.{i}.fc{k}"),
    (r"blocks.{s}.{u}.{conv:conv_\w+}", "features.{s+1}.{u}.block.{i}.0"),
    ("blocks.{s}.{u}.bn{k}", "features.{s+1}.{u}.block.{i}.1"),
    ("conv_head", "features.8.0"),
    ("bn2", "features.8.1"),
    ("classifier", "classifier.1"),
)

_UNIT = "trunk_output.block{s}.block{s}-{u-1}"
_REGNET = lines(
    ("stem.conv", "stem.0"),
    ("stem.bn", "stem.1"),
    *(
        (f"s{{s}}.b{{u}}.{ours}.{part}", f"{_UNIT}.{theirs}.{index}")
        for ours, theirs in (("conv1", "f.a"), ("conv2", "f.b"), ("conv3", "f.c"), ("downsample", "proj"))
        for index, part in enumerate(("conv", "bn"))
    ),
    ("s{s}.b{u}.se.fc{k}", f"{_UNIT}.f.se.fc{{k}}"),
    ("head.fc", "fc"),
)

TORCHVISION = Layout(
    source="torchvision 0.29",
    tables=(
        Table(
            ResNet,
            lines((PLAIN, REST)),
            {"unit": ("basic", "bottleneck"), "stem": ("imagenet",)},
            {"stem_pool": ("padded",), "stride_in": ("3x3",)},
        ),
        Table(VGG, _VGG),
        Table(InceptionV3, lines((PLAIN, REST)), extra=("AuxLogits",)),
        Table(MobileNet, _MOBILENET_V2, {"act": ("relu6",), "head_width": (1280,)}),
        Table(
            MobileNet, _EFFICIENTNET, {"act": ("silu",), "head_width": (1280, 1408, 1536, 1792)}, {"norm_eps": (1e-5,)}
        ),
        Table(MobileNet, _EFFICIENTNET, {"act": ("silu",), "head_width": (2048, 2304, 2560)}, {"norm_eps": (1e-3,)}),
        _mobilenet_v3(6),
        _mobilenet_v3(5),
        Table(RegNet, _REGNET),
    ),
)
