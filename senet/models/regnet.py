"""RegNetY: simple residual networks that have SE by definition, and any other block in its place."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from senet.errors import InputError
from senet.models.config import NetConfig
from senet.models.conv import ConvNormAct
from senet.models.net import DropPath, FeatureInfo, Net, classifier, global_pool
from senet.models.units import MakeBlock

__all__ = ["RegNet", "RegNetConfig"]


@dataclass(frozen=True, kw_only=True)
class RegNetConfig(NetConfig):
    """The options of a RegNet: those of :class:`NetConfig`, and its own.

    Stage 1 is the stem, stages 2 to 5 are ``s1`` to ``s4``.

    SE's own hidden width is the network's, see ``input_reduction``; a ``reduction`` in ``attn_options`` counts from
    the channels of the map that the block sits on.

    Args:
        depths: units in each stage.
        widths: channels of each stage.
        group_width: channels of a group of the 3x3 convolutions.
        stem_width: channels of the stem.
        input_reduction: by what SE's hidden layer is narrower than the input of its unit.
        output_stride: by how much the last map is smaller than the image: 32, or 16 or 8 with dilated convolutions in
            place of strides.
        zero_init_residual: start the last norm of each branch at zero, so that each unit starts as its shortcut.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    group_width: int
    stem_width: int = 32
    input_reduction: float = 4.0
    output_stride: Literal[8, 16, 32] = 32
    zero_init_residual: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.depths or len(self.depths) != len(self.widths):
            raise InputError(f"depths is {list(self.depths)}, widths {list(self.widths)}; give each one number a stage")
        self.check_positive("depths", "widths", "group_width", "stem_width")
        if not self.input_reduction > 0:
            raise InputError(f"input_reduction is {self.input_reduction}; accepted: above 0")
        if any(width % self.group_width for width in self.widths):
            raise InputError(f"widths is {list(self.widths)}; accepted: multiples of group_width, {self.group_width}")
        self.check_stages(range(2, 2 + len(self.depths)))


class RegNet(Net):
    """A 3x3 convolution and stages of bottlenecks that do not narrow, with a block inside, after the 3x3 convolution.

    Radosavovic et al., "Designing Network Design Spaces", arXiv 2003.13678. SE's hidden layer has a quarter of the
    channels that come into the unit, not of the map's that it recalibrates (``input_reduction``). Parameter names are
    timm's. Starts as timm's: convolutions, those of the blocks included, by He's rule with biases of 0, the classifier
    at a standard deviation of 0.01; but ``zero_init_residual``, on in timm, is off unless asked for.
    """

    head_names = ("head.global_pool", "head.drop", "head.fc")

    def __init__(self, config: RegNetConfig) -> None:
        super().__init__()
        self.config = config
        channels, reduction, dilation = config.stem_width, 2, 1
        self.stem = ConvNormAct(config.in_chans, channels, 3, stride=2)
        self.feature_info = [FeatureInfo(num_chs=channels, reduction=reduction, module="stem")]
        rates = config.drop_path_rates(sum(config.depths))
        for index, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True), start=1):
            stride, first_dilation = 2, dilation
            if reduction >= config.output_stride:
                stride, dilation = 1, dilation * 2
            stage = nn.Sequential()
            for number in range(depth):
                first = number == 0
                hidden = max(1, round(channels / config.input_reduction))
                unit = RegNetUnit(
                    channels,
                    width,
                    group_width=config.group_width,
                    stride=stride if first else 1,
                    dilation=first_dilation if first else dilation,
                    project=first,
                    make_block=partial(config.block_at, index + 1, hidden=hidden),
                    drop_path=rates.pop(0),
                )
                stage.add_module(f"b{number + 1}", unit)
                channels = width
            self.add_module(f"s{index}", stage)
            reduction *= stride
            self.feature_info.append(FeatureInfo(num_chs=channels, reduction=reduction, module=f"s{index}"))
        self.num_features = channels
        self.head = nn.Sequential(
            OrderedDict(
                global_pool=global_pool(),
                drop=nn.Dropout(config.drop_rate),
                fc=classifier(channels, config.num_classes),
            )
        )
        _initialise(self, config)


class RegNetUnit(nn.Module):
    """conv1x1, BN, ReLU, conv3x3, BN, ReLU, [SE], conv1x1, BN, + shortcut, ReLU.

    Args:
        inputs, width: channels of the map that comes in, and of all others.
        group_width: channels of a group of the 3x3 convolution.
        stride, dilation: of the 3x3 convolution.
        project: whether the shortcut is a 1x1 convolution with the unit's stride, or else the map itself.
        make_block: gives the block for a map of so many channels, or None.
        drop_path: probability of leaving the branch out.

    Shapes: (N, inputs, H, W) -> (N, width, H / stride, W / stride).
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        *,
        group_width: int,
        stride: int,
        dilation: int,
        project: bool,
        make_block: MakeBlock,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(inputs, width, 1)
        self.conv2 = ConvNormAct(width, width, 3, stride=stride, dilation=dilation, groups=width // group_width)
        self.se = make_block(width)
        self.conv3 = ConvNormAct(width, width, 1, act=False)
        self.drop_path = DropPath(drop_path)
        self.downsample = ConvNormAct(inputs, width, 1, stride=stride, act=False) if project else None
        self.act3 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        y = self.conv3(y if self.se is None else self.se(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.act3(self.drop_path(y) + shortcut)


def _initialise(net: RegNet, config: RegNetConfig) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.weight.shape[0] * module.weight[0, 0].numel() // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
        elif isinstance(module, RegNetUnit) and config.zero_init_residual:
            nn.init.zeros_(module.conv3.bn.weight)
