"""PaddleOCR's classifier of text lines, upright or upside down: a MobileNetV3 that makes maps lower, not narrower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import nn

from senet.models.config import NetConfig
from senet.models.mbconv import ACTS, Act, InvertedResidual, Make, Placement, Shape
from senet.models.mobile import initialise_mobile
from senet.models.net import Entry, FeatureInfo, Net, classifier, global_pool

__all__ = ["TABLE", "TextLineConfig", "TextLineNet"]


class _Row(NamedTuple):
    """A unit: size and channels of its depthwise convolution, its outputs, whether a block, activation, stride."""

    kernel: int
    width: int
    outputs: int
    site: bool
    act: Act
    stride: int  # of the height


# PaddleOCR's small MobileNetV3 with all channels times 0.35, to multiples of 8.
_ROWS = (
    _Row(3, 8, 8, True, "relu", 2),
    _Row(3, 24, 8, False, "relu", 2),
    _Row(3, 32, 8, False, "relu", 1),
    _Row(5, 32, 16, True, "hard_swish", 2),
    _Row(5, 88, 16, True, "hard_swish", 1),
    _Row(5, 88, 16, True, "hard_swish", 1),
    _Row(5, 40, 16, True, "hard_swish", 1),
    _Row(5, 48, 16, True, "hard_swish", 1),
    _Row(5, 104, 32, True, "hard_swish", 2),
    _Row(5, 200, 32, True, "hard_swish", 1),
    _Row(5, 200, 32, True, "hard_swish", 1),
)
_STEM, _HEAD = 8, 200
_SITES = (2, 4, 5)  # stages with blocks; the stem is stage 1, and each stride of the height begins another


@dataclass(frozen=True, kw_only=True)
class TextLineConfig(NetConfig):
    """The options of :class:`TextLineNet`: those of all networks.

    Stages begin where the height is halved; blocks can sit in stages 2, 4 and 5.
    """

    num_classes: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_stages(_SITES)


class TextLineNet(Net):
    """A MobileNetV3 for lines of text, whose units halve the height alone: a line keeps its letters apart.

    PaddleOCR's ``configs/cls/cls_mv3.yml`` and ``ppocr/modeling/backbones/rec_mobilenet_v3.py``, after Howard et al.,
    "Searching for MobileNetV3", arXiv 1905.02244, Table 2. Its SE sits behind the depthwise convolution, r = 4, its
    gate is clip(0.2 x + 0.5, 0, 1). Class 0 is upright, class 1 turned by 180 degrees. Trained weights:
    ``ch_ppocr_mobile_v2.0_cls_infer.onnx`` (Apache-2.0), which ``pretrained=`` reads. Images are lines of text 48
    pixels high, their proportions kept, cut or filled up with zeros to a width of 192, RGB in -1..1: (x / 255 - 0.5)
    / 0.5.

    Differs from the paper: strides of units are those of the height; the first unit has a 1x1 convolution in front
    though that widens nothing; the gate's slope is 1/5, not 1/6; the head is a max pool, 2x2, a global average and the
    classifier.

    Shapes: (N, in_chans, H, W) -> (N, num_classes), or (N, 200) where num_classes is 0; H is 33 or more, W 4 or more.
    The ``reduction`` of its maps is that of the height; the width is halved once, by the stem.
    """

    head_names: ClassVar[tuple[str, ...]] = ("max_pool", "global_pool", "head_drop", "classifier")
    config: TextLineConfig

    def __init__(self, config: TextLineConfig) -> None:
        super().__init__()
        self.config = config
        self.conv_stem = nn.Conv2d(config.in_chans, _STEM, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.act1 = ACTS["hard_swish"]()
        self.blocks = self._trunk()
        self.conv_head = nn.Conv2d(_ROWS[-1].outputs, _HEAD, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(_HEAD)
        self.act2 = ACTS["hard_swish"]()
        self.num_features = _HEAD
        self.max_pool = nn.MaxPool2d(2)
        self.global_pool = global_pool()
        self.head_drop = nn.Dropout(config.drop_rate)
        self.classifier = classifier(_HEAD, config.num_classes)
        initialise_mobile(self)

    def _trunk(self) -> nn.Sequential:
        """The units; notes the maps before each stride, and the last, in ``feature_info``."""
        rates = self.config.drop_path_rates(len(_ROWS))
        trunk = nn.Sequential()
        channels, stage, module = _STEM, 1, "act1"
        self.feature_info = []
        for index, (row, rate) in enumerate(zip(_ROWS, rates, strict=True)):
            if row.stride == 2:
                self.feature_info.append(FeatureInfo(num_chs=channels, reduction=2**stage, module=module))
                stage += 1
            shape = Shape(
                inputs=channels,
                width=row.width,
                outputs=row.outputs,
                kernel=row.kernel,
                stride=(2, 1) if row.stride == 2 else 1,
                expand=True,
            )
            trunk.append(InvertedResidual(shape, self._make(row, stage), rate))
            channels, module = row.outputs, f"blocks.{index}"
        self.feature_info.append(FeatureInfo(num_chs=channels, reduction=2**stage, module=module))
        return trunk

    def _make(self, row: _Row, stage: int) -> Make:
        def block(place: Placement, channels: int) -> nn.Module | None:
            return self.config.block_at(stage, channels) if row.site and place == "depthwise" else None

        return Make(act=ACTS[row.act], norm=nn.BatchNorm2d, block=block)


TABLE: Mapping[str, Entry] = {
    "paddle_textline_cls": Entry(
        TextLineNet,
        TextLineConfig(attn="se", attn_options={"reduction": 4, "gate": "hard_sigmoid_0.2"}),
        "PaddleOCR, configs/cls/cls_mv3.yml",
        size=48,
        width=192,
    )
}
