"""MobileNet, MobileNetV2, MobileNetV3 and EfficientNet, with any block at any site."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

from torch import nn

from senet.errors import InputError
from senet.models.mbconv import ACTS, UNITS, Make, Placement, Shape
from senet.models.mobile_config import MobileConfig, MobileStage, multiple_of_8
from senet.models.net import FeatureInfo, Net, classifier, global_pool

__all__ = ["MobileNet", "MobileNetV3", "initialise_mobile"]


class MobileNet(Net):
    """Stem, stages of units, where there is one a 1x1 convolution, global average, classifier.

    MobileNet (Howard et al., arXiv 1704.04861), MobileNetV2 (Sandler et al., arXiv 1801.04381) and EfficientNet (Tan
    and Le, arXiv 1905.11946). Parameter names and initialisation are timm's.

    Shapes: (N, in_chans, H, W) -> (N, num_classes), or (N, channels) where num_classes is 0.
    """

    head_names: ClassVar[tuple[str, ...]] = ("global_pool", "head_drop", "classifier")
    config: MobileConfig
    global_pool: nn.Module

    def __init__(self, config: MobileConfig) -> None:
        super().__init__()
        self.config = config
        self.conv_stem = nn.Conv2d(config.in_chans, config.stem_width, 3, stride=2, padding=1, bias=False)
        self.bn1 = config.norm(config.stem_width)
        self.act1 = ACTS[config.act]()
        self.blocks = self._trunk()
        self._add_head(config.trunk[-1].outputs)
        initialise_mobile(self)

    def _trunk(self) -> nn.Sequential:
        """The stages; notes the maps before each stride, and the last, in ``feature_info``."""
        config = self.config
        rates = config.drop_path_rates(sum(len(stage.expansions) for stage in config.trunk))
        trunk = nn.Sequential()
        channels, reduction, dilation = config.stem_width, 2, 1
        self.feature_info = []
        for index, stage in enumerate(config.trunk):
            if stage.stride > 1:
                module = f"blocks.{index - 1}" if index else "act1"
                self.feature_info.append(FeatureInfo(num_chs=channels, reduction=reduction, module=module))
            stride, first_dilation = stage.stride, dilation
            if reduction * stride > config.output_stride:
                stride, dilation = 1, dilation * stride
            units = nn.Sequential()
            for number, expansion in enumerate(stage.expansions):
                first = number == 0
                shape = Shape(
                    inputs=channels,
                    width=channels if expansion == 1 else multiple_of_8(channels * expansion),
                    outputs=stage.outputs,
                    kernel=stage.kernel,
                    stride=stride if first else 1,
                    dilation=first_dilation if first else dilation,
                )
                make = Make(
                    act=ACTS[stage.act or config.act],
                    norm=config.norm,
                    block=_blocks(config, stage, number=index + 2, inputs=channels),
                )
                units.append(UNITS[stage.unit](shape, make, rates.pop(0)))
                channels = stage.outputs
            trunk.append(units)
            reduction *= stride
        last = f"blocks.{len(config.trunk) - 1}"
        self.feature_info.append(FeatureInfo(num_chs=channels, reduction=reduction, module=last))
        return trunk

    def _add_head(self, channels: int) -> None:
        """Adds the layers after the trunk, whose output has so many channels."""
        config = self.config
        if config.head_width is not None:
            self.conv_head = nn.Conv2d(channels, config.head_width, 1, bias=False)
            self.bn2 = config.norm(config.head_width)
            self.act2 = ACTS[config.act]()
        self.num_features = config.head_width or channels
        self.global_pool = global_pool()
        self.head_drop = nn.Dropout(config.drop_rate)
        self.classifier = classifier(self.num_features, config.num_classes)


class MobileNetV3(MobileNet):
    """A mobile network whose last 1x1 convolution comes after the global average, with a bias and without a norm.

    Howard et al., "Searching for MobileNetV3", arXiv 1905.02244, Tables 1 and 2. Parameter names and initialisation
    are timm's.

    Shapes: (N, in_chans, H, W) -> (N, num_classes), or (N, head_width) where num_classes is 0.
    """

    head_names = ("global_pool", "conv_head", "act2", "flatten", "head_drop", "classifier")

    @property
    def head_hidden_size(self) -> int:
        """Number of features that the classifier takes."""
        return self.conv_head.out_channels

    def _add_head(self, channels: int) -> None:
        config = self.config
        if config.head_width is None:
            raise InputError("head_width is none, but MobileNetV3's head has a convolution; give its outputs")
        self.num_features = channels
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.conv_head = nn.Conv2d(channels, config.head_width, 1)
        self.act2 = ACTS[config.act]()
        self.flatten = nn.Flatten(1)
        self.head_drop = nn.Dropout(config.drop_rate)
        self.classifier = classifier(config.head_width, config.num_classes)


def _blocks(
    config: MobileConfig, stage: MobileStage, *, number: int, inputs: int
) -> Callable[[Placement, int], nn.Module | None]:
    """The function that makes the block of a unit with so many inputs, at its place and nowhere else."""
    site = None if stage.site is None else config.placement or stage.site
    hidden = None if config.input_reduction is None else max(1, round(inputs / config.input_reduction))

    def block(place: Placement, channels: int) -> nn.Module | None:
        return config.block_at(number, channels, hidden=hidden) if place == site else None

    return block


def initialise_mobile(net: nn.Module) -> None:
    """As TensorFlow's release: by fan-out, where a depthwise filter counts its own outputs alone; biases are zero."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
            nn.init.normal_(module.weight, 0.0, math.sqrt(2 / fan_out))
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.out_features)
            nn.init.uniform_(module.weight, -bound, bound)
        if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
            nn.init.zeros_(module.bias)
