"""Every network by its name, as the options it is built from.

ImageNet networks are timm's of the same name: the stride in the 3x3 convolution, biases in the blocks. Hidden widths
are the paper's C / 16, but in depths 18 and 34, which the paper does not have, timm's: a multiple of 8.

CIFAR networks are those of He et al.: ``cifar_resnetN`` with identity shortcuts padded with zeros (arXiv 1512.03385,
Sec. 4.2), ``cifar_preresnetN`` with pre-activation units (arXiv 1603.05027), which the SE paper's Tables 4 and 5 use.
Their hidden widths are the paper's C / 16.
"""

from __future__ import annotations

from dataclasses import replace

from senet.models.resnet import ResNetConfig

__all__ = ["TABLE"]

TABLE: dict[str, ResNetConfig] = {}


def _with_twin(prefix: str, name: str, plain: ResNetConfig, *, rounding: str) -> None:
    """Enters a network and its SE twin, whose name has ``se`` before the network's."""
    TABLE[prefix + name] = plain
    TABLE[f"{prefix}se{name}"] = replace(plain, attn="se", attn_options={"rounding": rounding})


for _name, _depths in (("resnet18", (2, 2, 2, 2)), ("resnet34", (3, 4, 6, 3))):
    _with_twin("", _name, ResNetConfig(unit="basic", depths=_depths), rounding="timm")

for _name, _depths, _groups, _base_width in (
    ("resnet50", (3, 4, 6, 3), 1, 64),
    ("resnet101", (3, 4, 23, 3), 1, 64),
    ("resnet152", (3, 8, 36, 3), 1, 64),
    ("resnext50_32x4d", (3, 4, 6, 3), 32, 4),
    ("resnext101_32x4d", (3, 4, 23, 3), 32, 4),
):
    _plain = ResNetConfig(unit="bottleneck", depths=_depths, groups=_groups, base_width=_base_width)
    _with_twin("", _name, _plain, rounding="paper")

_CIFAR = ResNetConfig(unit="basic", depths=(1, 1, 1), planes=(16, 32, 64), stem="cifar", shortcut="pad", num_classes=10)

for _depth in (8, 14, 20, 32, 44, 56, 110):
    _with_twin("cifar_", f"resnet{_depth}", replace(_CIFAR, depths=((_depth - 2) // 6,) * 3), rounding="paper")

for _depth, _unit in ((110, "preact_basic"), (164, "preact_bottleneck")):
    _with_twin(
        "cifar_",
        f"preresnet{_depth}",
        replace(_CIFAR, unit=_unit, depths=(18, 18, 18), shortcut="projection"),  # type: ignore[arg-type]
        rounding="paper",
    )
