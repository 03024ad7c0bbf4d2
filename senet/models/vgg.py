"""VGG with batch norm, with any block after the non-linearity of each of its convolutions."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn

from senet.errors import InputError
from senet.models.config import NetConfig
from senet.models.net import Entry, FeatureInfo, Net, classifier, global_pool

__all__ = ["TABLE", "VGG", "VGGConfig"]

HIDDEN = 4096  # width of the two layers before the classifier
KERNEL = 7  # of the first of them: the last map's size for an image of 224 pixels


@dataclass(frozen=True, kw_only=True)
class VGGConfig(NetConfig):
    """The options of a VGG: those of :class:`NetConfig`, and its own.

    Stages are counted as in the VGG paper: stage 1 has the convolutions before the first max pool, and there is no
    stem before it. The VGG paper trains with ``drop_rate=0.5``, which acts before each of the head's last two layers.

    Args:
        depths: convolutions in each stage.
        widths: channels of each stage.
    """

    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.depths or len(self.depths) != len(self.widths):
            raise InputError(f"depths is {list(self.depths)}, widths {list(self.widths)}; give each one number a stage")
        self.check_positive("depths", "widths")
        self.refuse_drop_path("VGG has no shortcuts")
        self.check_stages(range(1, 1 + len(self.depths)))


class VGG(Net):
    """Chains of 3x3 convolutions, each with norm, ReLU and block, and a max pool after each chain.

    Simonyan and Zisserman, arXiv 1409.1556, Table 1, with batch norm; SE-VGG-16: arXiv 1709.01507v4, Table 2 and
    Sec. 3.3. Parameter names are timm's: a block shares the place of its ReLU, as ``features.2.se``, so that the
    numbers in ``features`` are the same with and without blocks. Starts as timm's: convolutions, those of the blocks
    included, by He's rule with biases of 0, the classifier at a standard deviation of 0.01.

    As in timm, the first layer of the head is a convolution: on a map larger than 7 x 7 it slides, and its outputs
    are averaged; a smaller map is first enlarged to 7 x 7 by adaptive average pooling. torchvision pools larger maps to
    7 x 7 instead, so that with its weights outputs are equal at 224 pixels and below, and differ above.

    Differs from the paper: no dropout unless ``drop_rate`` asks for it, as in timm.
    """

    head_names = ("pre_logits", "head.global_pool", "head.drop", "head.fc")

    @property
    def head_hidden_size(self) -> int:
        """Number of features that the classifier takes."""
        return HIDDEN

    def __init__(self, config: VGGConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_info = []
        self.features = nn.Sequential()
        channels = config.in_chans
        for stage, (depth, width) in enumerate(zip(config.depths, config.widths, strict=True), start=1):
            for _ in range(depth):
                self.features.append(nn.Conv2d(channels, width, 3, padding=1))
                self.features.append(nn.BatchNorm2d(width))
                self.features.append(_activation(config.block_at(stage, width)))
                channels = width
            self._end_level(channels, 2 ** (stage - 1))
            self.features.append(nn.MaxPool2d(2))
        self._end_level(channels, 2 ** len(config.depths))
        self.num_features = channels
        self.pre_logits = nn.Sequential(
            OrderedDict(
                enlarge=AtLeast(KERNEL),
                fc1=WholeMap(channels, HIDDEN, KERNEL),
                act1=nn.ReLU(inplace=True),
                drop=nn.Dropout(config.drop_rate),
                fc2=nn.Conv2d(HIDDEN, HIDDEN, 1),
                act2=nn.ReLU(inplace=True),
            )
        )
        self.head = nn.Sequential(
            OrderedDict(
                global_pool=global_pool(),
                drop=nn.Dropout(config.drop_rate),
                fc=classifier(HIDDEN, config.num_classes),
            )
        )
        _initialise(self)

    def _end_level(self, channels: int, reduction: int) -> None:
        module = f"features.{len(self.features) - 1}"
        self.feature_info.append(FeatureInfo(num_chs=channels, reduction=reduction, module=module))


class AtLeast(nn.Module):
    """Enlarges a map of fewer than ``size`` rows or columns to as many: (N, C, H, W) -> (N, C, H', W').

    As timm's ``ConvMlp`` does, by adaptive average pooling.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if height >= self.size and width >= self.size:
            return x
        return F.adaptive_avg_pool2d(x, (max(height, self.size), max(width, self.size)))


class WholeMap(nn.Conv2d):
    """A convolution that, where its kernel covers the whole map, is computed as the linear layer that it then is.

    (N, C, H, W) -> (N, C', H - k + 1, W - k + 1). For 224 pixels that is always so, and several times as fast on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != self.weight.shape[-2:]:
            return super().forward(x)
        return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None]


def _activation(block: nn.Module | None) -> nn.Module:
    act = nn.ReLU(inplace=True)
    return act if block is None else nn.Sequential(OrderedDict(act=act, se=block))


def _initialise(net: VGG) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


TABLE: dict[str, Entry] = {}
for _name, _depths in (
    ("vgg11_bn", (1, 1, 2, 2, 2)),
    ("vgg13_bn", (2, 2, 2, 2, 2)),
    ("vgg16_bn", (2, 2, 3, 3, 3)),
    ("vgg19_bn", (2, 2, 4, 4, 4)),
):
    _plain = VGGConfig(depths=_depths)
    TABLE[_name] = Entry(VGG, _plain, "arXiv 1409.1556, Table 1; with batch norm")
    TABLE[f"se{_name}"] = Entry(VGG, replace(_plain, attn="se"), "arXiv 1709.01507v4, Sec. 3.3 (Table 2 has SE-VGG-16)")
