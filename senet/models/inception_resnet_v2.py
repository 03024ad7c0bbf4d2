"""Inception-ResNet-v2 and SE-Inception-ResNet-v2, with the parameter names of timm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from senet.models.config import NetConfig
from senet.models.conv import Kernel
from senet.models.inception import Mixed, Step, conv_norm_act, convolutions
from senet.models.net import DropPath, Entry, FeatureInfo, Net, classifier, global_pool

__all__ = ["TABLE", "InceptionResNetV2", "InceptionResNetV2Config"]


@dataclass(frozen=True, kw_only=True)
class InceptionResNetV2Config(NetConfig):
    """The options of Inception-ResNet-v2: those of :class:`NetConfig`.

    Stages are counted by the size of the maps, for an image of 299 pixels, as a ResNet's: up to 2 the stem, 3 35x35
    (``repeat``), 4 17x17 (``repeat_1``), 5 8x8 (``repeat_2``, ``block8``).
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_stages((3, 4, 5))


class InceptionResNetV2(Net):
    """Inception-ResNet-v2: a stem, 10, 20 and 10 residual units with Inception branches, global average, classifier.

    Szegedy et al., arXiv 1602.07261, as in timm, which has the stem and the widths of their code instead of those of
    their figures. PyTorch's default initialisation, as in timm. The SE paper counts 11.75 GFLOPs (Table 2), fewer than
    this network's multiply-adds at 299 pixels; why is open.

    The SE paper builds it by the scheme of residual networks, the block on the branch before the summation (Sec. 3.3),
    and leaves two things open, which its counts cannot decide:

    - On which side of the residual scaling: here before it, x + scale * SE(F(x)). The scaling is a part of the
      summation (arXiv 1602.07261, Sec. 3.3). For SE both sides are the same functions: scaling its input is scaling the
      first layer's weights.
    - Whether the three modules without a shortcut (``mixed_5b``, ``mixed_6a``, ``mixed_7a``) have blocks: here they
      have none, as the paper's rule for residual networks names the residual branch alone.

    Shapes: (N, in_chans, H, W) -> (N, num_classes), or (N, 1536) where num_classes is 0; H and W at least 75.
    """

    head_names: ClassVar[tuple[str, ...]] = ("global_pool", "head_drop", "classif")

    def __init__(self, config: InceptionResNetV2Config) -> None:
        super().__init__()
        self.config = config
        rates = iter(config.drop_path_rates(40))
        self.conv2d_1a = conv_norm_act(config.in_chans, 32, 3, stride=2, padding=0)
        self.conv2d_2a = conv_norm_act(32, 32, 3, padding=0)
        self.conv2d_2b = conv_norm_act(32, 64, 3)
        self.maxpool_3a = nn.MaxPool2d(3, stride=2)
        self.conv2d_3b = conv_norm_act(64, 80, 1)
        self.conv2d_4a = conv_norm_act(80, 192, 3, padding=0)
        self.maxpool_5a = nn.MaxPool2d(3, stride=2)
        self.mixed_5b = _mixed_5b()
        self.repeat = _residuals(10, config, rates, stage=3, scale=0.17)
        self.mixed_6a = _mixed_6a()
        self.repeat_1 = _residuals(20, config, rates, stage=4, scale=0.1)
        self.mixed_7a = _mixed_7a()
        self.repeat_2 = _residuals(9, config, rates, stage=5, scale=0.2)
        self.block8 = Residual(config, 5, scale=1.0, drop_path=next(rates), act=False)
        self.conv2d_7b = conv_norm_act(2080, 1536, 1)
        self.feature_info = [
            FeatureInfo(num_chs=64, reduction=2, module="conv2d_2b"),
            FeatureInfo(num_chs=192, reduction=4, module="conv2d_4a"),
            FeatureInfo(num_chs=320, reduction=8, module="repeat"),
            FeatureInfo(num_chs=1088, reduction=16, module="repeat_1"),
            FeatureInfo(num_chs=1536, reduction=32, module="conv2d_7b"),
        ]
        self.num_features = 1536
        self.global_pool = global_pool()
        self.head_drop = nn.Dropout(config.drop_rate)
        self.classif = classifier(1536, config.num_classes)


_UNITS: dict[int, tuple[int, tuple[tuple[tuple[int, Kernel], ...], ...]]] = {  # by stage: channels, branches
    3: (320, (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (48, 3), (64, 3)))),
    4: (1088, (((192, 1),), ((128, 1), (160, (1, 7)), (192, (7, 1))))),
    5: (2080, (((192, 1),), ((192, 1), (224, (1, 3)), (256, (3, 1))))),
}


class Residual(Mixed):
    """A residual unit: branches side by side, a 1x1 convolution, the block, the scaled sum with the map, ReLU.

    Args:
        config: the network's options.
        stage: decides on channels and branches.
        scale: what the residual is multiplied by.
        drop_path: the probability of leaving out the residual.
        act: whether there is a ReLU after the sum.

    Shapes: (N, C, H, W) -> (N, C, H, W), C 320, 1088 or 2080 in stage 3, 4 or 5.
    """

    def __init__(
        self, config: InceptionResNetV2Config, stage: int, *, scale: float, drop_path: float, act: bool = True
    ) -> None:
        channels, branches = _UNITS[stage]
        super().__init__(
            _numbered([_branch(channels, *layers) for layers in branches]), se=config.block_at(stage, channels)
        )
        self.conv2d = nn.Conv2d(sum(layers[-1][0] for layers in branches), channels, 1)
        self.scale = scale
        self.drop_path = DropPath(drop_path)
        self.act = nn.ReLU(inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        residual = self.conv2d(self.concatenation(x))
        if self.se is not None:
            residual = self.se(residual)
        return self.act(self.drop_path(residual) * self.scale + x)


def _residuals(
    units: int, config: InceptionResNetV2Config, rates: Iterator[float], *, stage: int, scale: float
) -> nn.Sequential:
    return nn.Sequential(*(Residual(config, stage, scale=scale, drop_path=next(rates)) for _ in range(units)))


def _branch(inputs: int, *layers: tuple[int, Kernel], halve: bool = False) -> nn.Module:
    chain = convolutions(inputs, *layers, halve=halve)
    return nn.Sequential(*chain) if len(chain) > 1 else chain[0]


def _numbered(branches: Sequence[nn.Module]) -> list[list[Step]]:
    return [[{f"branch{number}": branch}] for number, branch in enumerate(branches)]


def _mixed_5b() -> Mixed:
    """(N, 192, H, W) -> (N, 320, H, W); its average does not count the zeros around the map."""
    average = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    branches = [
        _branch(192, (96, 1)),
        _branch(192, (48, 1), (64, 5)),
        _branch(192, (64, 1), (96, 3), (96, 3)),
        nn.Sequential(average, conv_norm_act(192, 64, 1)),
    ]
    return Mixed(_numbered(branches), se=None)


def _mixed_6a() -> Mixed:
    """(N, 320, H, W) -> (N, 1088, H / 2, W / 2), rounded down."""
    branches = [
        _branch(320, (384, 3), halve=True),
        _branch(320, (256, 1), (256, 3), (384, 3), halve=True),
        nn.MaxPool2d(3, stride=2),
    ]
    return Mixed(_numbered(branches), se=None)


def _mixed_7a() -> Mixed:
    """(N, 1088, H, W) -> (N, 2080, H / 2, W / 2), rounded down."""
    branches = [
        _branch(1088, (256, 1), (384, 3), halve=True),
        _branch(1088, (256, 1), (288, 3), halve=True),
        _branch(1088, (256, 1), (288, 3), (320, 3), halve=True),
        nn.MaxPool2d(3, stride=2),
    ]
    return Mixed(_numbered(branches), se=None)


_PLAIN = InceptionResNetV2Config()
_SE = replace(_PLAIN, attn="se", attn_options={"rounding": "paper"})

TABLE: dict[str, Entry] = {
    "inception_resnet_v2": Entry(InceptionResNetV2, _PLAIN, "arXiv 1602.07261; widths as in timm", 299),
    "seinception_resnet_v2": Entry(InceptionResNetV2, _SE, "arXiv 1709.01507v4, Table 2", 299),
}
