"""Residual networks by name.

ImageNet networks are timm's of the same name: the stride in the 3x3 convolution, biases in the blocks. Hidden widths
are the paper's C / 16, but in depths 18 and 34, which the paper does not have, timm's: a multiple of 8.

Names that end in ``_caffe`` are the authors' release (github.com/hujie-frank/SENet) and its plain twins: a max pool
without padding whose size is rounded up, in ResNets the stride in the first 1x1 convolution, in SENet-154 dropout.

CIFAR networks are those of He et al.: ``cifar_resnetN`` with identity shortcuts padded with zeros (arXiv 1512.03385,
Sec. 4.2), ``cifar_preresnetN`` with pre-activation units (arXiv 1603.05027), which the SE paper's Tables 4 and 5 use,
and ``cifar_wrn16_8`` (arXiv 1605.07146). Their hidden widths are the paper's C / 16.
"""

from __future__ import annotations

from dataclasses import replace

from senet.models.net import Entry
from senet.models.resnet import ResNet, ResNetConfig

__all__ = ["TABLE"]

TABLE: dict[str, Entry] = {}

_SE = "arXiv 1709.01507v4"


def _with_twin(prefix: str, name: str, plain: ResNetConfig, *, source: str, se: str, rounding: str = "paper") -> None:
    """Enters a network and its SE twin, whose name has ``se`` before the network's."""
    size = 32 if plain.stem == "cifar" else 224
    options = {"rounding": rounding}
    TABLE[prefix + name] = Entry(ResNet, plain, source, size)
    TABLE[f"{prefix}se{name}"] = Entry(ResNet, replace(plain, attn="se", attn_options=options), se, size)


_RESNET, _RESNEXT = "arXiv 1512.03385, Table 1", "arXiv 1611.05431, Table 1"

for _name, _depths in (("resnet18", (2, 2, 2, 2)), ("resnet34", (3, 4, 6, 3))):
    _plain = ResNetConfig(unit="basic", depths=_depths)
    _with_twin("", _name, _plain, source=_RESNET, se="timm 1.0.31", rounding="timm")

for _name, _depths in (("resnet50", (3, 4, 6, 3)), ("resnet101", (3, 4, 23, 3)), ("resnet152", (3, 8, 36, 3))):
    _plain = ResNetConfig(unit="bottleneck", depths=_depths)
    _caffe = replace(_plain, stride_in="1x1", stem_pool="ceil")
    _with_twin("", _name, _plain, source=_RESNET, se=f"{_SE}, Table 1; stride as in timm")
    _with_twin("", f"{_name}_caffe", _caffe, source=_RESNET, se=f"{_SE}, Table 2; release")

for _name, _depths, _base_width in (
    ("resnext50_32x4d", (3, 4, 6, 3), 4),
    ("resnext101_32x4d", (3, 4, 23, 3), 4),
    ("resnext101_32x8d", (3, 4, 23, 3), 8),
    ("resnext101_64x4d", (3, 4, 23, 3), 4),
):
    _groups = 64 if "64x" in _name else 32
    _plain = ResNetConfig(unit="bottleneck", depths=_depths, groups=_groups, base_width=_base_width)
    _in_paper = _name.endswith("_32x4d")
    _with_twin("", _name, _plain, source=_RESNEXT, se=f"{_SE}, Table 1" if _in_paper else "timm 1.0.31")
    if _in_paper:
        _caffe = replace(_plain, stem_pool="ceil")
        _with_twin("", f"{_name}_caffe", _caffe, source=_RESNEXT, se=f"{_SE}, Table 2; release")

_SENET154 = ResNetConfig(
    unit="bottleneck", depths=(3, 8, 36, 3), groups=64, base_width=4, narrowing=2, stem="deep", stem_width=128,
    shortcut="projection3x3", attn="se", attn_options={"rounding": "paper"},
)  # fmt: skip
TABLE["senet154"] = Entry(ResNet, _SENET154, f"{_SE}, appendix; pool as in timm")
TABLE["senet154_caffe"] = Entry(
    ResNet, replace(_SENET154, stem_pool="ceil", drop_rate=0.2), f"{_SE}, appendix; release"
)

_CIFAR = ResNetConfig(unit="basic", depths=(1, 1, 1), planes=(16, 32, 64), stem="cifar", shortcut="pad", num_classes=10)

for _depth in (8, 14, 20, 32, 44, 56, 110):
    _plain = replace(_CIFAR, depths=((_depth - 2) // 6,) * 3)
    _with_twin("cifar_", f"resnet{_depth}", _plain, source="arXiv 1512.03385, Sec. 4.2", se=_SE)

_PREACT = replace(_CIFAR, unit="preact_basic", shortcut="projection")
for _name, _plain in (
    ("preresnet110", replace(_PREACT, depths=(18, 18, 18))),
    ("preresnet164", replace(_PREACT, unit="preact_bottleneck", depths=(18, 18, 18), stride_in="1x1")),
):
    _with_twin("cifar_", _name, _plain, source="arXiv 1603.05027", se=f"{_SE}, Tables 4 and 5")

_WRN = replace(_PREACT, depths=(2, 2, 2), planes=(128, 256, 512), stem_width=16)
_with_twin("cifar_", "wrn16_8", _WRN, source="arXiv 1605.07146, Table 1", se=f"{_SE}, Tables 4 and 5")
