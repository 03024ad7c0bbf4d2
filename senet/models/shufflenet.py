"""ShuffleNet v1 and SE-ShuffleNet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from senet.errors import InputError
from senet.models.config import NetConfig
from senet.models.net import DropPath, Entry, FeatureInfo, Net, classifier, global_pool

__all__ = ["TABLE", "ShuffleNet", "ShuffleNetConfig", "ShuffleUnit"]

STEM = 24
STAGE2 = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # channels of stage 2 by groups; each later stage has twice as many


@dataclass(frozen=True, kw_only=True)
class ShuffleNetConfig(NetConfig):
    """The options of a ShuffleNet: those of :class:`NetConfig`, and its own.

    Stages are numbered as in the paper's Table 1: 1 the stem, 2 to 4 the stages of units.

    Args:
        groups: groups of the 1x1 convolutions; more groups make the network wider at the same cost.
        width: the factor on all channels (the paper's s in "ShuffleNet sx").
        depths: units in each stage.
    """

    groups: Literal[1, 2, 3, 4, 8] = 3
    width: float = 1.0
    depths: tuple[int, ...] = (4, 8, 4)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.depths or min(self.depths) < 1:
            raise InputError(f"depths is {list(self.depths)}; accepted: one number a stage, each 1 or more")
        if not (math.isfinite(self.width) and self.width > 0):
            raise InputError(f"width is {self.width}; accepted: above 0")
        if any(later <= earlier for earlier, later in pairwise(self.channels())):
            raise InputError(
                f"width is {self.width}, which makes the stages {list(self.channels())} channels wide; "
                "give one that makes each wider than the one before, for example 0.25"
            )
        if max(self.depths) == 1:
            self.refuse_drop_path(f"depths is {list(self.depths)}, and the first unit of a stage adds to no shortcut")
        self.check_stages(range(2, 2 + len(self.depths)))

    def channels(self) -> tuple[int, ...]:
        """Channels of the stem and of each stage, all multiples of ``groups``."""
        wide = [STEM, *(STAGE2[self.groups] * 2**index for index in range(len(self.depths)))]
        return tuple(_multiple(round(self.width * number), self.groups) for number in wide)


class ShuffleUnit(nn.Module):
    """Grouped 1x1, BN, ReLU, shuffle, depthwise 3x3, BN, grouped 1x1, BN, [block], with a shortcut, ReLU (Fig. 2).

    The shortcut is added. Where the map is halved it is averaged, 3x3, and put beside the branch, which then makes
    the new channels only; the branch's come first.

    Args:
        inputs: channels of the map that comes in.
        outputs: channels of the map that goes out.
        groups: of the second 1x1 convolution, and of the shuffle.
        first_groups: of the first 1x1 convolution.
        stride: 1, or 2 to halve the map.
        se: the block at the end of the branch.
        drop_path: probability of leaving out a branch that is added.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        groups: int,
        first_groups: int,
        stride: int,
        se: nn.Module | None,
        drop_path: float,
    ) -> None:
        super().__init__()
        narrow = _multiple(-(-outputs // 4), groups)
        new = outputs if stride == 1 else outputs - inputs
        self.conv1 = nn.Conv2d(inputs, narrow, 1, groups=first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.act1 = nn.ReLU(inplace=True)
        self.shuffle = nn.ChannelShuffle(groups)
        self.conv2 = nn.Conv2d(narrow, narrow, 3, stride=stride, padding=1, groups=narrow, bias=False)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv3 = nn.Conv2d(narrow, new, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(new)
        self.se = se
        self.drop_path = DropPath(drop_path)
        self.pool = None if stride == 1 else nn.AvgPool2d(3, stride=stride, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.shuffle(self.act1(self.bn1(self.conv1(x))))
        branch = self.bn3(self.conv3(self.bn2(self.conv2(branch))))
        if self.se is not None:
            branch = self.se(branch)
        if self.pool is not None:
            return self.act(torch.cat((branch, self.pool(x)), dim=1))
        return self.act(self.drop_path(branch) + x)


class ShuffleNet(Net):
    """ShuffleNet v1: a convolution, a max pool, three stages of units, global average, classifier.

    Zhang et al., arXiv 1707.01083, Table 1; SE-ShuffleNet: arXiv 1709.01507v4, Table 3. Starts from He's normal
    initialisation by fan-in, which in a grouped convolution counts what a group sees. ``drop_path_rate`` leaves out
    branches that are added; those put beside their shortcut always stay.

    Where the papers leave it open: the first 1x1 convolution of all has no groups, its input being narrow (Sec. 3.2);
    where a map is halved the branch's channels come first, as in pytorchcv (the authors' later code has the
    shortcut's first); channels that ``groups`` does not divide are rounded up, which concerns narrow networks only.
    The SE paper does not say where its block sits. At the end of the branch, before it is added or put beside the
    shortcut, it adds 610,416 weights, and 1.87 M become 2.48 M, the paper's 1.8 M and 2.4 M, cut off; after the whole
    unit it would add 720,000, and make 2.59 M.

    Differs from the paper: blocks have biases unless ``attn_options={"bias": False}``, which the counts above leave
    out.

    Shapes: (N, in_chans, H, W) -> (N, num_classes), or (N, channels) where num_classes is 0.
    """

    def __init__(self, config: ShuffleNetConfig) -> None:
        super().__init__()
        self.config = config
        stem, *widths = config.channels()
        self.conv1 = nn.Conv2d(config.in_chans, stem, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.act1 = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.feature_info = [
            FeatureInfo(num_chs=stem, reduction=2, module="act1"),
            FeatureInfo(num_chs=stem, reduction=4, module="maxpool"),
        ]
        rates = config.drop_path_rates(sum(config.depths))
        channels = stem
        for number, (width, depth) in enumerate(zip(widths, config.depths, strict=True), start=2):
            name = f"stage{number}"
            self.add_module(name, _stage(config, number, channels, width, [rates.pop(0) for _ in range(depth)]))
            self.feature_info.append(FeatureInfo(num_chs=width, reduction=2 ** (number + 1), module=name))
            channels = width
        self.num_features = channels
        self.global_pool = global_pool()
        self.head_drop = nn.Dropout(config.drop_rate)
        self.fc = classifier(channels, config.num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


def _stage(
    config: ShuffleNetConfig, number: int, inputs: int, outputs: int, drop_path_rates: Sequence[float]
) -> nn.Sequential:
    """The units of a stage, of which the first halves the map."""
    stage = nn.Sequential()
    for index, drop_path in enumerate(drop_path_rates):
        halving = index == 0
        unit = ShuffleUnit(
            inputs,
            outputs,
            groups=config.groups,
            first_groups=1 if halving and number == 2 else config.groups,
            stride=2 if halving else 1,
            se=config.block_at(number, outputs - inputs if halving else outputs),
            drop_path=0.0 if halving else drop_path,
        )
        stage.append(unit)
        inputs = outputs
    return stage


def _multiple(number: int, groups: int) -> int:
    """The number, rounded up to a multiple of the groups."""
    return -(-number // groups) * groups


_PLAIN = ShuffleNetConfig()

TABLE: dict[str, Entry] = {
    "shufflenet_g3": Entry(ShuffleNet, _PLAIN, "arXiv 1707.01083, Table 1"),
    "seshufflenet_g3": Entry(ShuffleNet, replace(_PLAIN, attn="se"), "arXiv 1709.01507v4, Table 3"),
}
