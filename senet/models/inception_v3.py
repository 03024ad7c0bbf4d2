"""Inception-v3 and SE-Inception-v3, with the parameter names of timm and torchvision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from senet.models.config import NetConfig
from senet.models.conv import Kernel
from senet.models.inception import Mixed, Step, conv_norm_act, convolutions
from senet.models.net import Entry, FeatureInfo, Net, classifier, global_pool

__all__ = ["TABLE", "InceptionV3", "InceptionV3Config"]


@dataclass(frozen=True, kw_only=True)
class InceptionV3Config(NetConfig):
    """The options of Inception-v3: those of :class:`NetConfig`, without ``drop_path_rate``: it has no shortcuts.

    Stages are counted by the size of the maps that modules put out, for an image of 299 pixels, as a ResNet's: up to 2
    the stem, 3 35x35 (Mixed_5b to 5d), 4 17x17 (Mixed_6a to 6e), 5 8x8 (Mixed_7a to 7c).
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_stages((3, 4, 5))
        self.refuse_drop_path("Inception-v3 has no shortcuts")


class InceptionV3(Net):
    """Inception-v3: a stem, eleven modules of branches side by side, global average, classifier.

    Szegedy et al., arXiv 1512.00567, as in timm and torchvision: without the auxiliary classifier, which serves only
    training, and without torchvision's ``transform_input``, which is the preprocessing of its weights: a mean and a
    standard deviation of 0.5, not ImageNet's.

    The SE paper names Inception modules without a version and gives no figure for SE-Inception-v3. The block sits where
    the authors' SE-BN-Inception has it: on the concatenation of each module, those that halve the map included.

    Shapes: (N, in_chans, H, W) -> (N, num_classes), or (N, 2048) where num_classes is 0; H and W at least 75.
    """

    def __init__(self, config: InceptionV3Config) -> None:
        super().__init__()
        self.config = config
        self.Conv2d_1a_3x3 = conv_norm_act(config.in_chans, 32, 3, stride=2, padding=0)
        self.Conv2d_2a_3x3 = conv_norm_act(32, 32, 3, padding=0)
        self.Conv2d_2b_3x3 = conv_norm_act(32, 64, 3)
        self.Pool1 = nn.MaxPool2d(3, stride=2)
        self.Conv2d_3b_1x1 = conv_norm_act(64, 80, 1)
        self.Conv2d_4a_3x3 = conv_norm_act(80, 192, 3, padding=0)
        self.Pool2 = nn.MaxPool2d(3, stride=2)
        at35, at17, at8 = (partial(_mixed, config, stage) for stage in (3, 4, 5))
        self.Mixed_5b = at35(256, _module_a(192, pooled=32))
        self.Mixed_5c = at35(288, _module_a(256, pooled=64))
        self.Mixed_5d = at35(288, _module_a(288, pooled=64))
        self.Mixed_6a = at17(768, _module_b(288))
        self.Mixed_6b = at17(768, _module_c(768, narrow=128))
        self.Mixed_6c = at17(768, _module_c(768, narrow=160))
        self.Mixed_6d = at17(768, _module_c(768, narrow=160))
        self.Mixed_6e = at17(768, _module_c(768, narrow=192))
        self.Mixed_7a = at8(1280, _module_d(768))
        self.Mixed_7b = at8(2048, _module_e(1280))
        self.Mixed_7c = at8(2048, _module_e(2048))
        self.feature_info = [
            FeatureInfo(num_chs=64, reduction=2, module="Conv2d_2b_3x3"),
            FeatureInfo(num_chs=192, reduction=4, module="Conv2d_4a_3x3"),
            FeatureInfo(num_chs=288, reduction=8, module="Mixed_5d"),
            FeatureInfo(num_chs=768, reduction=16, module="Mixed_6e"),
            FeatureInfo(num_chs=2048, reduction=32, module="Mixed_7c"),
        ]
        self.num_features = 2048
        self.global_pool = global_pool()
        self.head_drop = nn.Dropout(config.drop_rate)
        self.fc = classifier(2048, config.num_classes)
        for module in self.modules():  # as in timm and torchvision; the blocks too
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.1)


def _mixed(config: InceptionV3Config, stage: int, outputs: int, branches: list[list[Step]]) -> Mixed:
    return Mixed(branches, se=config.block_at(stage, outputs))


def _branch(name: str, inputs: int, *layers: tuple[int, Kernel], halve: bool = False) -> list[Step]:
    """Convolutions one after the other, each (outputs, kernel), called name_1, name_2 ... or, if alone, name."""
    chain = convolutions(inputs, *layers, halve=halve)
    if len(chain) == 1:
        return [{name: chain[0]}]
    return [{f"{name}_{number}": convolution} for number, convolution in enumerate(chain, 1)]


def _pool_branch(inputs: int, outputs: int) -> list[Step]:
    """The average of 3x3, zeros around the map counted, and a 1x1 convolution."""
    return [{"pool": nn.AvgPool2d(3, stride=1, padding=1)}, *_branch("branch_pool", inputs, (outputs, 1))]


def _halving_pool() -> list[Step]:
    return [{"pool": nn.MaxPool2d(3, stride=2)}]


def _module_a(inputs: int, *, pooled: int) -> list[list[Step]]:
    """1x1; 5x5; 3x3 twice; pool."""
    return [
        _branch("branch1x1", inputs, (64, 1)),
        _branch("branch5x5", inputs, (48, 1), (64, 5)),
        _branch("branch3x3dbl", inputs, (64, 1), (96, 3), (96, 3)),
        _pool_branch(inputs, pooled),
    ]


def _module_b(inputs: int) -> list[list[Step]]:
    """Halves the map: 3x3; 3x3 twice; the map itself, pooled (Fig. 10)."""
    return [
        _branch("branch3x3", inputs, (384, 3), halve=True),
        _branch("branch3x3dbl", inputs, (64, 1), (96, 3), (96, 3), halve=True),
        _halving_pool(),
    ]


def _module_c(inputs: int, *, narrow: int) -> list[list[Step]]:
    """1x1; 7x7 as 1x7 and 7x1; 7x7 twice as 7x1, 1x7, 7x1, 1x7; pool (Fig. 6)."""
    row, column = (1, 7), (7, 1)
    return [
        _branch("branch1x1", inputs, (192, 1)),
        _branch("branch7x7", inputs, (narrow, 1), (narrow, row), (192, column)),
        _branch("branch7x7dbl", inputs, (narrow, 1), (narrow, column), (narrow, row), (narrow, column), (192, row)),
        _pool_branch(inputs, 192),
    ]


def _module_d(inputs: int) -> list[list[Step]]:
    """Halves the map: 3x3; 7x7 as 1x7 and 7x1, then 3x3; the map itself, pooled."""
    return [
        _branch("branch3x3", inputs, (192, 1), (320, 3), halve=True),
        _branch("branch7x7x3", inputs, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3), halve=True),
        _halving_pool(),
    ]


def _module_e(inputs: int) -> list[list[Step]]:
    """1x1; 1x3 and 3x1 side by side; 3x3, then 1x3 and 3x1 side by side; pool (Fig. 7)."""
    return [
        _branch("branch1x1", inputs, (320, 1)),
        [*_branch("branch3x3_1", inputs, (384, 1)), _fork("branch3x3_2")],
        [*_branch("branch3x3dbl", inputs, (448, 1), (384, 3)), _fork("branch3x3dbl_3")],
        _pool_branch(inputs, 192),
    ]


def _fork(name: str) -> Step:
    """1x3 and 3x1 side by side, on 384 channels."""
    return {f"{name}a": conv_norm_act(384, 384, (1, 3)), f"{name}b": conv_norm_act(384, 384, (3, 1))}


_PLAIN = InceptionV3Config()
_SE = replace(_PLAIN, attn="se", attn_options={"rounding": "paper"})

TABLE: dict[str, Entry] = {
    "inception_v3": Entry(InceptionV3, _PLAIN, "arXiv 1512.00567, Table 1", 299),
    "seinception_v3": Entry(InceptionV3, _SE, "arXiv 1709.01507v4, Fig. 2; on Inception-v3", 299),
}
