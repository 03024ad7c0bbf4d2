"""All layouts by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from senet.models.inception_resnet_v2 import InceptionResNetV2
from senet.models.inception_v3 import InceptionV3
from senet.models.mobile import MobileNet, MobileNetV3
from senet.models.net import Net
from senet.models.regnet import RegNet
from senet.models.resnet import ResNet
from senet.models.vgg import VGG
from senet.models.weights.layouts.names import PLAIN, REST, Layout, Options, Table, lines
from senet.models.weights.layouts.pytorchcv import PYTORCHCV
from senet.models.weights.layouts.torchvision import TORCHVISION
from senet.models.weights.layouts.tutorial import TUTORIAL

__all__ = ["LAYOUTS"]

_POSTACT: Options = {"unit": ("basic", "bottleneck")}
_IMAGENET: Options = {**_POSTACT, "stem": ("imagenet",)}
_MODERN: Options = {"stem_pool": ("padded",), "stride_in": ("3x3",), "placement": ("standard",)}
_CAFFE: Options = {"unit": ("bottleneck",), "stem": ("imagenet",)}  # legacy_seresnet18 and 34 have one ReLU more
_CEIL: Options = {"stem_pool": ("ceil",), "placement": ("standard",)}

_UNIT = r"layer{s}.{u}.{rest:(?!se\.).+}"  # all modules of a residual unit but the block's
_SE = "layer{s}.{u}.se.fc{k}"

_SENET = Layout(source="this package", tables=(Table(Net, lines(("{rest:.+}", REST))),))

_SE_CONV = lines(
    ("blocks.{s}.{u}.se.fc1", "blocks.{s}.{u}.se.conv_reduce"),
    ("blocks.{s}.{u}.se.fc2", "blocks.{s}.{u}.se.conv_expand"),
    (PLAIN, REST),
)
_EPS: Options = {"norm_eps": (1e-5,)}
_TIMM = Layout(
    source="timm 1.0.31",
    tables=(
        Table(ResNet, lines((_SE, _SE), (PLAIN, REST)), {**_POSTACT, "stem": ("imagenet", "deep")}, _MODERN),
        Table(VGG, lines((PLAIN, REST))),
        Table(InceptionV3, lines((PLAIN, REST)), extra=("AuxLogits",)),
        Table(InceptionResNetV2, lines((PLAIN, REST))),
        Table(MobileNet, lines((PLAIN, REST)), {"act": ("relu6",)}, _EPS),
        Table(MobileNet, _SE_CONV, {"act": ("silu",)}, _EPS),
        Table(MobileNetV3, _SE_CONV, needs=_EPS),
        Table(RegNet, lines(("s{s}.b{u}.se.fc{k}", "s{s}.b{u}.se.fc{k}"), (PLAIN, REST))),
    ),
)

_LEGACY_UNIT = ((_SE, "layer{s}.{u}.se_module.fc{k}"), (_UNIT, "layer{s}.{u}.{rest}"), ("fc", "last_linear"))
_LEGACY = lines(("conv1", "layer0.conv1"), ("bn1", "layer0.bn1"), *_LEGACY_UNIT)
_LEGACY_DEEP = lines(
    ("conv1.0", "layer0.conv1"),
    ("conv1.1", "layer0.bn1"),
    ("conv1.3", "layer0.conv2"),
    ("conv1.4", "layer0.bn2"),
    ("conv1.6", "layer0.conv3"),
    ("bn1", "layer0.bn3"),
    *_LEGACY_UNIT,
)
_TIMM_LEGACY = Layout(
    source="timm 1.0.31, timm/models/senet.py; Cadene/pretrained-models.pytorch, pretrainedmodels/models/senet.py and "
    "inceptionresnetv2.py",
    note="its networks are ours whose names end in _caffe, and Inception-ResNet-v2",
    tables=(
        Table(ResNet, _LEGACY, {**_CAFFE, "groups": (1,)}, {**_CEIL, "stride_in": ("1x1",)}),
        Table(ResNet, _LEGACY, {**_CAFFE, "groups": (32,)}, {**_CEIL, "stride_in": ("3x3",)}),
        Table(ResNet, _LEGACY_DEEP, {**_CAFFE, "stem": ("deep",)}, {**_CEIL, "stride_in": ("3x3",)}),
        Table(InceptionResNetV2, lines(("classif", "last_linear"), (PLAIN, REST))),
    ),
)

_MMPRETRAIN = Layout(
    source="open-mmlab/mmpretrain, mmpretrain/models/backbones/resnet.py and seresnet.py, models/utils/se_layer.py",
    tables=(
        Table(
            ResNet,
            lines(
                (_SE, "backbone.layer{s}.{u}.se_layer.conv{k}.conv"),
                (_UNIT, "backbone.layer{s}.{u}.{rest}"),
                ("{rest:conv1|bn1}", "backbone.{rest}"),
                ("fc", "head.fc"),
            ),
            _IMAGENET,
            _MODERN,
        ),
    ),
)


def _nvidia(stage: str) -> tuple[Table, ...]:
    names = lines(
        ("layer{s}.{u}.se.fc1", stage + ".{u}.squeeze.squeeze", True),
        ("layer{s}.{u}.se.fc2", stage + ".{u}.squeeze.expand", True),
        (_UNIT, stage + ".{u}.{rest}"),
        ("{rest:conv1|bn1|fc}", REST),
    )
    return (Table(ResNet, names, _IMAGENET, _MODERN),)


_NVIDIA_SOURCE = "NVIDIA/DeepLearningExamples, PyTorch/Classification/ConvNets/image_classification/models/resnet.py"
_NVIDIA_NOTE = "its blocks have hidden_channels=16"

_MOSKOMULE = Layout(
    source="moskomule/senet.pytorch, senet/se_resnet.py and se_module.py",
    note="its blocks have bias=false and rounding=paper",
    tables=(
        Table(
            ResNet,
            lines(
                ("layer{s}.{u}.se.fc1", "layer{s}.{u}.se.fc.0", True),
                ("layer{s}.{u}.se.fc2", "layer{s}.{u}.se.fc.2", True),
                (PLAIN, REST),
            ),
            {**_POSTACT, "stem": ("imagenet", "cifar")},
            {**_MODERN, "shortcut": ("projection",)},
        ),
    ),
)

# Of layouts with the same names for a network, detect() takes the first.
LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "senet": _SENET,
        "timm": _TIMM,
        "timm-legacy": _TIMM_LEGACY,
        "torchvision": TORCHVISION,
        "pytorchcv": PYTORCHCV,
        "mmpretrain": _MMPRETRAIN,
        "nvidia": Layout(_NVIDIA_SOURCE, _nvidia("layers.{s-1}"), _NVIDIA_NOTE),
        "nvidia-20.06": Layout(f"{_NVIDIA_SOURCE}, ngc_checkpoint_remap", _nvidia("layer{s}"), _NVIDIA_NOTE),
        "moskomule": _MOSKOMULE,
        "tutorial": TUTORIAL,
    }
)
