"""ResNet and ResNeXt, for ImageNet and for CIFAR, with any block at any site."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from senet.errors import InputError
from senet.models.config import NetConfig
from senet.models.units import UNITS, PadShortcut, PreActUnit, conv1x1, conv3x3

__all__ = ["ResNet", "ResNetConfig"]


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(NetConfig):
    """The options of a residual network: those of :class:`NetConfig`, and its own.

    Args:
        unit: the residual unit.
        depths: units in each stage.
        planes: width of each stage's 3x3 convolutions, before groups.
        groups: groups of the 3x3 convolutions (ResNeXt's cardinality).
        base_width: width of a group where planes are 64 (ResNeXt's d).
        stem: ``"imagenet"``, a 7x7 convolution and a max pool, or ``"cifar"``, a 3x3 convolution.
        shortcut: where the shape changes, ``"projection"``, a 1x1 convolution, or ``"pad"``, zeros.
        zero_init_residual: start the last norm of each branch at zero, so that each unit starts as its shortcut.
    """

    unit: Literal["basic", "bottleneck", "preact_basic", "preact_bottleneck"]
    depths: tuple[int, ...]
    planes: tuple[int, ...] = (64, 128, 256, 512)
    groups: int = 1
    base_width: int = 64
    stem: Literal["imagenet", "cifar"] = "imagenet"
    shortcut: Literal["projection", "pad"] = "projection"
    zero_init_residual: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.depths or len(self.depths) != len(self.planes):
            raise InputError(f"depths is {list(self.depths)}, planes {list(self.planes)}; give each one number a stage")
        if min(*self.depths, *self.planes, self.groups, self.base_width) < 1:
            raise InputError("depths, planes, groups and base_width have a number below 1; accepted: 1 or more")
        if min(self.planes) * self.base_width < 64:
            raise InputError(f"base_width is {self.base_width}: {min(self.planes)} planes leave its groups no channel")
        if UNITS[self.unit].expansion == 1 and (self.groups, self.base_width) != (1, 64):
            raise InputError(f"groups and base_width are for bottlenecks, but unit is {self.unit!r}; leave them out")
        stages = range(2, 2 + len(self.depths))
        if self.stages is not None and not set(self.stages) <= set(stages):
            raise InputError(f"stages is {list(self.stages)}; accepted: any of {list(stages)} (the stem is stage 1)")
        if self.shortcut == "pad" and issubclass(UNITS[self.unit], PreActUnit):
            raise InputError("shortcut is 'pad', but pre-activation units accept: 'projection'")


class ResNet(nn.Module):
    """A residual network: stem, stages of units, global average, classifier.

    He et al., arXiv 1512.03385 (and 1603.05027 with pre-activation units); Xie et al., arXiv 1611.05431 for groups;
    SE by Hu et al., arXiv 1709.01507v4, Table 1. Parameter names are timm's.

    Its children run in the order in which they are declared, so that any prefix of them is a network too.

    Shapes: (N, in_chans, H, W) -> (N, num_classes), or (N, channels) where num_classes is 0.
    """

    head = ("global_pool", "fc")

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        preact = issubclass(UNITS[config.unit], PreActUnit)
        channels, reduction = config.planes[0], 1
        if config.stem == "imagenet":
            self.conv1 = nn.Conv2d(config.in_chans, channels, 7, stride=2, padding=3, bias=False)
            reduction = 2
        else:
            self.conv1 = conv3x3(config.in_chans, channels)
        if not preact:
            self.bn1 = nn.BatchNorm2d(channels)
            self.act1 = nn.ReLU(inplace=True)
        self.feature_info = [_info(channels, reduction, "conv1" if preact else "act1")]
        if config.stem == "imagenet":
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
            reduction = 4
        for index, (planes, depth) in enumerate(zip(config.planes, config.depths, strict=True)):
            stride = 1 if index == 0 else 2
            stage, channels = _stage(config, index + 2, channels, planes, depth, stride)
            self.add_module(f"layer{index + 1}", stage)
            reduction *= stride
            self.feature_info.append(_info(channels, reduction, f"layer{index + 1}"))
        if preact:
            self.norm = nn.BatchNorm2d(channels)
            self.act = nn.ReLU(inplace=True)
            self.feature_info[-1]["module"] = "act"
        self.num_features = channels
        self.global_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
        self.fc = nn.Linear(channels, config.num_classes) if config.num_classes else nn.Identity()
        _initialise(self, config)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map: (N, in_chans, H, W) -> (N, num_features, h, w)."""
        for name, child in self.named_children():
            if name not in self.head:
                x = child(x)
        return x

    def forward_head(self, x: Tensor, *, pre_logits: bool = False) -> Tensor:
        """From the last map to logits, or to pooled features: (N, num_features, h, w) -> (N, num_classes)."""
        x = self.global_pool(x)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def _info(channels: int, reduction: int, module: str) -> dict[str, int | str]:
    return {"num_chs": channels, "reduction": reduction, "module": module}


def _stage(
    config: ResNetConfig, number: int, inputs: int, planes: int, depth: int, stride: int
) -> tuple[nn.Sequential, int]:
    """The units of one stage, and the channels that they put out."""
    unit = UNITS[config.unit]
    outputs = planes * unit.expansion
    units = nn.Sequential()
    for index in range(depth):
        first = index == 0
        units.append(
            unit(
                inputs if first else outputs,
                planes,
                stride=stride if first else 1,
                groups=config.groups,
                base_width=config.base_width,
                shortcut=_shortcut(config, inputs, outputs, stride) if first else None,
                placement=config.placement,
                make_block=partial(config.block_at, number),
            )
        )
    return units, outputs


def _shortcut(config: ResNetConfig, inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    if config.shortcut == "pad":
        return PadShortcut(inputs, outputs, stride)
    projection = conv1x1(inputs, outputs, stride)
    if issubclass(UNITS[config.unit], PreActUnit):
        return projection
    return nn.Sequential(projection, nn.BatchNorm2d(outputs))


def _initialise(net: ResNet, config: ResNetConfig) -> None:
    """He's normal initialisation by fan-out for all convolutions (arXiv 1502.01852), those of the blocks included."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if config.zero_init_residual:
        last_norm = {"basic": "bn2", "bottleneck": "bn3"}.get(config.unit)
        if last_norm is None:
            raise InputError("zero_init_residual needs a norm at the end of the branch; pre-activation units have none")
        for module in net.modules():
            if isinstance(module, UNITS[config.unit]):
                nn.init.zeros_(module.get_submodule(last_norm).weight)  # type: ignore[arg-type]
