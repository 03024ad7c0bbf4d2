"""BN-Inception and SE-BN-Inception, as the authors released them.

Ioffe and Szegedy, arXiv 1502.03167; the release's prototxt (github.com/hujie-frank/SENet, SE-BN-Inception) fixes what
the papers leave open. Modules are called as the release's layers, with a dot for the slash, so that the keys of a
state_dict follow from the layers' names:

| layer of the release | module here | its parameters |
|---|---|---|
| ``conv1/7x7_s2`` | ``conv1.7x7_s2.conv`` | ``weight`` |
| ``conv1/7x7_s2/bn`` (BatchNorm) | ``conv1.7x7_s2.bn`` | ``running_mean``, ``running_var`` |
| ``conv1/7x7_s2/bn/scale`` (Scale) | ``conv1.7x7_s2.bn`` | ``weight``, ``bias`` |
| ``conv2/3x3_reduce``, ``conv2/3x3`` | ``conv2.3x3_reduce``, ``conv2.3x3`` | the same three layers each |
| ``inception_3a/1x1`` | ``inception_3a.1x1`` | the same (not in 3c and 4e) |
| ``inception_3a/3x3_reduce``, ``/3x3`` | ``inception_3a.3x3_reduce``, ``.3x3`` | the same |
| ``inception_3a/double3x3_reduce`` | ``inception_3a.double3x3_reduce`` | the same |
| ``inception_3a/double3x3a``, ``/double3x3b`` | ``inception_3a.double3x3a``, ``.double3x3b`` | the same |
| ``inception_3a/pool_proj`` | ``inception_3a.pool_proj`` | the same (not in 3c and 4e) |
| ``inception_3a_1x1_down`` | ``inception_3a.se.fc1`` | ``weight``, ``bias`` |
| ``inception_3a_1x1_up`` | ``inception_3a.se.fc2`` | ``weight``, ``bias`` |
| ``classifier`` | ``fc`` | ``weight``, ``bias`` |

and so for 3b, 3c, 4a to 4e, 5a and 5b.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn

from senet.models.config import NetConfig
from senet.models.conv import ConvNormAct
from senet.models.inception import Mixed, Step
from senet.models.net import Entry, FeatureInfo, Net, classifier, global_pool

__all__ = ["TABLE", "BNInception", "BNInceptionConfig"]

_MODULES = {  # stage; widths of 1x1, 3x3_reduce, 3x3, double3x3_reduce, double3x3a and b, pool_proj; 0: there is none
    "3a": (3, (64, 64, 64, 64, 96, 32)),
    "3b": (3, (64, 64, 96, 64, 96, 64)),
    "3c": (4, (0, 128, 160, 64, 96, 0)),
    "4a": (4, (224, 64, 96, 96, 128, 128)),
    "4b": (4, (192, 96, 128, 96, 128, 128)),
    "4c": (4, (160, 128, 160, 128, 160, 128)),
    "4d": (4, (96, 128, 192, 160, 192, 128)),
    "4e": (5, (0, 128, 192, 192, 256, 0)),
    "5a": (5, (352, 192, 320, 160, 224, 128)),
    "5b": (5, (352, 192, 320, 192, 224, 128)),
}


@dataclass(frozen=True, kw_only=True)
class BNInceptionConfig(NetConfig):
    """The options of BN-Inception: those of :class:`NetConfig`, without ``drop_path_rate``: it has no shortcuts.

    Stages are counted by the size of the maps that modules put out, for an image of 224 pixels, as a ResNet's: up to 2
    the stem, 3 28x28 (3a, 3b), 4 14x14 (3c to 4d), 5 7x7 (4e to 5b).
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_stages((3, 4, 5))
        self.refuse_drop_path("BN-Inception has no shortcuts")


class BNInception(Net):
    """BN-Inception: a stem, ten modules of branches side by side, global average, classifier.

    The block of the SE network sits on the concatenation of each of the ten modules, those that halve the map
    included. Max pools have no padding and round their size up, average pools count the zeros around the map, and the
    pool of 5b is a maximum, all as in the release.

    Differs from the release: where a map of odd size is halved (the image is no multiple of 32), its branches would
    differ by a pixel and the release stops; here the pool then reaches over the edge. Convolutions start from He's
    normal initialisation, which the paper names and the release does not hold.

    Shapes: (N, in_chans, H, W) -> (N, num_classes), or (N, 1024) where num_classes is 0; H and W at least 7.
    """

    def __init__(self, config: BNInceptionConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = _chain({"7x7_s2": _conv(config.in_chans, 64, 7, stride=2)})
        self.pool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = _chain({"3x3_reduce": _conv(64, 64, 1), "3x3": _conv(64, 192, 3)})
        self.pool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        channels = 192
        for name, (stage, widths) in _MODULES.items():
            branches, channels = _branches(channels, widths, max_pool=name == "5b")
            self.add_module(f"inception_{name}", Mixed(branches, se=config.block_at(stage, channels)))
        self.feature_info = [
            FeatureInfo(num_chs=64, reduction=2, module="conv1"),
            FeatureInfo(num_chs=192, reduction=4, module="conv2"),
            FeatureInfo(num_chs=320, reduction=8, module="inception_3b"),
            FeatureInfo(num_chs=608, reduction=16, module="inception_4d"),
            FeatureInfo(num_chs=channels, reduction=32, module="inception_5b"),
        ]
        self.num_features = channels
        self.global_pool = global_pool()
        self.head_drop = nn.Dropout(config.drop_rate)
        self.fc = classifier(channels, config.num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class _HalvingPool(nn.Module):
    """The largest of 3x3, every second: (N, C, H, W) -> (N, C, H / 2, W / 2), rounded up as a padded convolution's."""

    def forward(self, x: Tensor) -> Tensor:
        odd_height, odd_width = x.shape[2] % 2, x.shape[3] % 2
        if odd_height or odd_width:
            x = F.pad(x, (0, odd_width, 0, odd_height), value=float("-inf"))
        return F.max_pool2d(x, 3, stride=2, ceil_mode=True)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> ConvNormAct:
    return ConvNormAct(inputs, outputs, kernel, stride=stride)


def _chain(modules: Step) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


def _branches(inputs: int, widths: tuple[int, ...], *, max_pool: bool) -> tuple[list[list[Step]], int]:
    """The branches of a module, which halves the map where it has no 1x1 convolution, and what they put out in all."""
    one, narrow, wide, double_narrow, double_wide, project = widths
    stride = 1 if one else 2
    three: list[Step] = [
        {"3x3_reduce": _conv(inputs, narrow, 1)},
        {"3x3": _conv(narrow, wide, 3, stride)},
    ]
    double: list[Step] = [
        {"double3x3_reduce": _conv(inputs, double_narrow, 1)},
        {"double3x3a": _conv(double_narrow, double_wide, 3)},
        {"double3x3b": _conv(double_wide, double_wide, 3, stride)},
    ]
    if not one:
        return [three, double, [{"pool": _HalvingPool()}]], wide + double_wide + inputs
    pool = nn.MaxPool2d(3, stride=1, padding=1) if max_pool else nn.AvgPool2d(3, stride=1, padding=1)
    branches: list[list[Step]] = [
        [{"1x1": _conv(inputs, one, 1)}],
        three,
        double,
        [{"pool": pool}, {"pool_proj": _conv(inputs, project, 1)}],
    ]
    return branches, one + wide + double_wide + project


_PLAIN = BNInceptionConfig()

TABLE: dict[str, Entry] = {
    "bn_inception": Entry(BNInception, _PLAIN, "arXiv 1502.03167; release of arXiv 1709.01507"),
    "sebn_inception": Entry(
        BNInception,
        replace(_PLAIN, attn="se", attn_options={"rounding": "paper"}),
        "arXiv 1709.01507v4, Table 2; release",
    ),
}
