"""ResNet, ResNeXt and SENet, for ImageNet and for CIFAR, with any block at any site."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import nn

from senet.errors import InputError
from senet.models.config import NetConfig
from senet.models.net import FeatureInfo, Net, classifier, global_pool
from senet.models.units import UNITS, PadShortcut, Placement, PreActUnit, Shape, conv1x1, conv3x3

__all__ = ["ResNet", "ResNetConfig"]


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(NetConfig):
    """The options of a residual network: those of :class:`NetConfig`, and its own.

    Stages are counted as in the SE paper: 1 is the stem, 2 the first stage of units.

    Args:
        placement: where in a residual unit the block sits (paper, Fig. 5 and Sec. 6.5): ``"standard"`` at the end
            of the branch before the sum, ``"pre"`` before the branch, ``"post"`` after sum and ReLU,
            ``"identity"`` on the shortcut, ``"3x3"`` inside a bottleneck after its 3x3 convolution. ``"parallel"``, of
            no paper though some draw it, scales the branch's map by a gate of the unit's input, which the shortcut has
            brought to that map's shape; wrong as the gate does not know the map that it is to recalibrate.
        unit: the residual unit.
        depths: units in each stage.
        planes: width of each stage's 3x3 convolutions, before groups.
        groups: groups of the 3x3 convolutions (ResNeXt's cardinality).
        base_width: width of a group where planes are 64 (ResNeXt's d).
        narrowing: by what a bottleneck's first 1x1 convolution is narrower than its 3x3 (SENet-154: 2).
        stride_in: which convolution of a bottleneck has the stride: ``"3x3"``, as in timm and torchvision, or
            ``"1x1"``, as in He et al. and the authors' SE-ResNets.
        stem: ``"imagenet"``, a 7x7 convolution and a max pool; ``"deep"``, three 3x3 and a max pool; or ``"cifar"``,
            one 3x3.
        stem_width: channels of the stem; None: of the first stage's planes. The first two convolutions of a deep stem
            have half as many.
        stem_pool: ``"padded"``, 3x3 with a pixel around the map, or ``"ceil"``, none and rounded up, as in Caffe.
        shortcut: where the shape changes, ``"projection"``, a 1x1 convolution; ``"projection3x3"``, where the size
            changes too a 3x3 one (SENet-154); or ``"pad"``, zeros.
        output_stride: by how much the last map is smaller than the image: 32, or 16 or 8 with dilated convolutions in
            place of strides.
        zero_init_residual: start the last norm of each branch at zero, so that each unit starts as its shortcut.
    """

    placement: Placement = "standard"
    unit: Literal["basic", "bottleneck", "preact_basic", "preact_bottleneck"]
    depths: tuple[int, ...]
    planes: tuple[int, ...] = (64, 128, 256, 512)
    groups: int = 1
    base_width: int = 64
    narrowing: int = 1
    stride_in: Literal["1x1", "3x3"] = "3x3"
    stem: Literal["imagenet", "deep", "cifar"] = "imagenet"
    stem_width: int | None = None
    stem_pool: Literal["padded", "ceil"] = "padded"
    shortcut: Literal["projection", "projection3x3", "pad"] = "projection"
    output_stride: Literal[8, 16, 32] = 32
    zero_init_residual: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.depths or len(self.depths) != len(self.planes):
            raise InputError(f"depths is {list(self.depths)}, planes {list(self.planes)}; give each one number a stage")
        self.check_positive("depths", "planes", "groups", "base_width", "narrowing", "stem_width")
        bottleneck, preact = UNITS[self.unit].expansion > 1, issubclass(UNITS[self.unit], PreActUnit)
        if not bottleneck and (self.groups, self.base_width, self.narrowing, self.stride_in) != (1, 64, 1, "3x3"):
            raise InputError(
                f"groups, base_width, narrowing and stride_in are for bottlenecks, but unit is {self.unit!r}; "
                "leave them out"
            )
        widths = [self.group_width(planes) for planes in self.planes]
        if 0 in widths:
            raise InputError(f"base_width is {self.base_width}: {min(self.planes)} planes leave its groups no channel")
        if any(width % self.narrowing for width in widths):
            raise InputError(f"narrowing is {self.narrowing}; accepted: what divides the widths of groups, {widths}")
        if self.stem == "deep" and self.stem_channels < 2:
            raise InputError(
                f"stem_width is {self.stem_width}, which leaves a deep stem {self.stem_channels} channel; "
                "accepted: 2 or more"
            )
        self.check_stages(range(2, 2 + len(self.depths)))
        if self.attn is None and self.placement != "standard":
            raise InputError("placement says where blocks sit, but attn is none; give attn='se'")
        if preact and self.shortcut != "projection":
            raise InputError(f"shortcut is {self.shortcut!r}, but pre-activation units accept: 'projection'")
        if preact and self.zero_init_residual:
            raise InputError("zero_init_residual needs a norm at the end of the branch; pre-activation units have none")
        if self.stem == "cifar" and (self.output_stride, self.stem_pool) != (32, "padded"):
            raise InputError("output_stride and stem_pool are for stem 'imagenet' or 'deep', but stem is 'cifar'")

    @property
    def stem_channels(self) -> int:
        """Channels that the stem puts out."""
        return self.planes[0] if self.stem_width is None else self.stem_width

    def group_width(self, planes: int) -> int:
        """Channels of a group of the 3x3 convolutions in a stage of so many planes."""
        return planes * self.base_width // 64


class ResNet(Net):
    """A residual network: stem, stages of units, global average, classifier.

    He et al., arXiv 1512.03385 (and 1603.05027 with pre-activation units); Xie et al., arXiv 1611.05431 for groups;
    SE by Hu et al., arXiv 1709.01507v4, Table 1, SENet-154 its appendix. Parameter names are timm's where timm has the
    network.

    Shapes: (N, in_chans, H, W) -> (N, num_classes), or (N, channels) where num_classes is 0.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        preact = issubclass(UNITS[config.unit], PreActUnit)
        channels = config.stem_channels
        self.conv1, reduction = _stem(config, channels)
        if not preact:
            self.bn1 = nn.BatchNorm2d(channels)
            self.act1 = nn.ReLU(inplace=True)
        self.feature_info = [FeatureInfo(num_chs=channels, reduction=reduction, module="conv1" if preact else "act1")]
        if config.stem != "cifar":
            padded = config.stem_pool == "padded"
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1 if padded else 0, ceil_mode=not padded)
            reduction = 4
        rates = config.drop_path_rates(sum(config.depths))
        dilation = 1
        for index, (planes, depth) in enumerate(zip(config.planes, config.depths, strict=True)):
            stride, first_dilation = 1 if index == 0 else 2, dilation
            if config.stem != "cifar" and reduction * stride > config.output_stride:
                stride, dilation = 1, dilation * stride
            outputs = planes * UNITS[config.unit].expansion
            stage = nn.Sequential()
            for number in range(depth):
                first = number == 0
                width = config.group_width(planes) * config.groups
                shape = Shape(
                    inputs=channels,
                    width=width,
                    outputs=outputs,
                    narrow=width // config.narrowing,
                    stride=stride if first else 1,
                    stride_in=config.stride_in,
                    groups=config.groups,
                    dilation=dilation,
                    first_dilation=first_dilation if first else dilation,
                )
                unit = UNITS[config.unit](
                    shape,
                    shortcut=_shortcut(config, shape) if first else None,
                    placement=config.placement,
                    make_block=partial(config.block_at, index + 2),
                    drop_path=rates.pop(0),
                )
                stage.append(unit)
                channels = outputs
            self.add_module(f"layer{index + 1}", stage)
            reduction *= stride
            self.feature_info.append(FeatureInfo(num_chs=channels, reduction=reduction, module=f"layer{index + 1}"))
        if preact:
            self.norm = nn.BatchNorm2d(channels)
            self.act = nn.ReLU(inplace=True)
            self.feature_info[-1]["module"] = "act"
        self.num_features = channels
        self.global_pool = global_pool()
        self.head_drop = nn.Dropout(config.drop_rate)
        self.fc = classifier(channels, config.num_classes)
        _initialise(self, config)


def _stem(config: ResNetConfig, channels: int) -> tuple[nn.Module, int]:
    """The first convolution or convolutions, up to the norm, and their stride."""
    if config.stem == "cifar":
        return conv3x3(config.in_chans, channels), 1
    if config.stem == "imagenet":
        return nn.Conv2d(config.in_chans, channels, 7, stride=2, padding=3, bias=False), 2
    half = channels // 2
    parts: list[nn.Module] = [conv3x3(config.in_chans, half, 2), nn.BatchNorm2d(half), nn.ReLU(inplace=True)]
    parts += [conv3x3(half, half), nn.BatchNorm2d(half), nn.ReLU(inplace=True), conv3x3(half, channels)]
    return nn.Sequential(*parts), 2


def _shortcut(config: ResNetConfig, shape: Shape) -> nn.Module | None:
    if shape.stride == 1 and shape.inputs == shape.outputs:
        return None
    if config.shortcut == "pad":
        return PadShortcut(shape.inputs, shape.outputs, shape.stride)
    wide = config.shortcut == "projection3x3" and (shape.stride > 1 or shape.dilation > 1)
    projection = (
        conv3x3(shape.inputs, shape.outputs, shape.stride, dilation=shape.first_dilation)
        if wide
        else conv1x1(shape.inputs, shape.outputs, shape.stride)
    )
    if issubclass(UNITS[config.unit], PreActUnit):
        return projection
    return nn.Sequential(projection, nn.BatchNorm2d(shape.outputs))


def _initialise(net: ResNet, config: ResNetConfig) -> None:
    """He's normal initialisation by fan-out for all convolutions (arXiv 1502.01852), those of the blocks included."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if config.zero_init_residual:
        last_norm = {"basic": "bn2", "bottleneck": "bn3"}[config.unit]
        for module in net.modules():
            if isinstance(module, UNITS[config.unit]):
                nn.init.zeros_(module.get_submodule(last_norm).weight)  # type: ignore[arg-type]
