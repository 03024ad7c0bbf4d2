"""Mobile networks by name. Names, parameter names and shapes are timm's; the SE twins of MobileNet v1 and v2 are ours.

EfficientNets and MobileNetV3 have SE by definition; ``attn=None`` gives their plain twins. Dropout is 0, as in timm;
EfficientNet's paper trains with 0.2 to 0.5 (``drop_rate``) and stochastic depth 0.2 (``drop_path_rate``). Image sizes
are the papers'; timm evaluates its weights of EfficientNet-B2 to B5 at others.

``semobilenetv1_100`` (SE paper, Table 3): the paper leaves the place open. Its 4.7 M parameters fit SE with r = 16 on
the output of each of the 13 units (4,711,720 without biases), and not on the depthwise maps (4.58 M); after the last
activation, as the paper says of VGG. Differs from the paper: blocks have biases, unless ``attn_options`` says
``{"bias": False}``.

``semobilenetv2_100`` is in no paper: the SE paper's rule for residual units, r = 16 at the end of the branch before the
sum.
"""

from __future__ import annotations

import math
from dataclasses import replace

from senet.models.mobile import MobileNet, MobileNetV3
from senet.models.mobile_config import MobileConfig, MobileStage, multiple_of_8
from senet.models.net import Entry

__all__ = ["TABLE"]

TABLE: dict[str, Entry] = {}


# Outputs, stride, units.
_V1 = MobileConfig(
    trunk=tuple(
        MobileStage(unit="separable", outputs=outputs, stride=stride, expansions=(1.0,) * units, site="standard")
        for outputs, stride, units in ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 2, 6), (1024, 2, 2))
    )
)
TABLE["mobilenetv1_100"] = Entry(MobileNet, _V1, "arXiv 1704.04861, Table 1; ReLU6 as in its release")
TABLE["semobilenetv1_100"] = Entry(MobileNet, replace(_V1, attn="se"), "arXiv 1709.01507v4, Table 3")

# Expansion, outputs, stride, units.
_V2 = MobileConfig(
    head_width=1280,
    trunk=tuple(
        MobileStage(outputs=outputs, stride=stride, expansions=(expansion,) * units, site="standard")
        for expansion, outputs, stride, units in (
            (1.0, 16, 1, 1),
            (6.0, 24, 2, 2),
            (6.0, 32, 2, 3),
            (6.0, 64, 2, 4),
            (6.0, 96, 1, 3),
            (6.0, 160, 2, 3),
            (6.0, 320, 1, 1),
        )
    ),
)
TABLE["mobilenetv2_100"] = Entry(MobileNet, _V2, "arXiv 1801.04381, Table 2")
TABLE["semobilenetv2_100"] = Entry(MobileNet, replace(_V2, attn="se"), "arXiv 1801.04381, Table 2, with SE")


def _mobilenetv3(head_width: int, *trunk: MobileStage) -> MobileConfig:
    """The stages' expansions are the papers' widths divided by their units' inputs."""
    options = {"reduction": 4, "rounding": "torchvision", "gate": "hard_sigmoid"}
    return MobileConfig(
        stem_width=16, head_width=head_width, act="hard_swish", attn="se", attn_options=options, trunk=trunk
    )


_V3_LARGE = _mobilenetv3(
    1280,
    MobileStage(outputs=16, expansions=(1.0,), act="relu"),
    MobileStage(outputs=24, stride=2, expansions=(4.0, 3.0), act="relu"),
    MobileStage(outputs=40, stride=2, expansions=(3.0,) * 3, kernel=5, act="relu", site="depthwise"),
    MobileStage(outputs=80, stride=2, expansions=(6.0, 2.5, 2.3, 2.3)),
    MobileStage(outputs=112, expansions=(6.0,) * 2, site="depthwise"),
    MobileStage(outputs=160, stride=2, expansions=(6.0,) * 3, kernel=5, site="depthwise"),
    MobileStage(unit="conv", outputs=960, expansions=(1.0,), kernel=1),
)
_V3_SMALL = _mobilenetv3(
    1024,
    MobileStage(outputs=16, stride=2, expansions=(1.0,), act="relu", site="depthwise"),
    MobileStage(outputs=24, stride=2, expansions=(4.5, 11 / 3), act="relu"),
    MobileStage(outputs=40, stride=2, expansions=(4.0, 6.0, 6.0), kernel=5, site="depthwise"),
    MobileStage(outputs=48, expansions=(3.0,) * 2, kernel=5, site="depthwise"),
    MobileStage(outputs=96, stride=2, expansions=(6.0,) * 3, kernel=5, site="depthwise"),
    MobileStage(unit="conv", outputs=576, expansions=(1.0,), kernel=1),
)
TABLE["mobilenetv3_large_100"] = Entry(MobileNetV3, _V3_LARGE, "arXiv 1905.02244, Table 1")
TABLE["mobilenetv3_small_100"] = Entry(MobileNetV3, _V3_SMALL, "arXiv 1905.02244, Table 2")


def _efficientnet(width: float, depth: float) -> MobileConfig:
    """EfficientNet-B0 (arXiv 1905.11946, Table 1) with its channels and its numbers of units multiplied."""
    return MobileConfig(
        stem_width=multiple_of_8(32 * width),
        head_width=multiple_of_8(1280 * width),
        act="silu",
        attn="se",
        attn_options={"activation": "silu"},
        input_reduction=4.0,
        trunk=tuple(
            MobileStage(
                outputs=multiple_of_8(outputs * width),
                kernel=kernel,
                stride=stride,
                expansions=(expansion,) * math.ceil(units * depth),
                site="depthwise",
            )
            for expansion, outputs, kernel, stride, units in (
                (1.0, 16, 3, 1, 1),
                (6.0, 24, 3, 2, 2),
                (6.0, 40, 5, 2, 2),
                (6.0, 80, 3, 2, 3),
                (6.0, 112, 5, 1, 3),
                (6.0, 192, 5, 2, 4),
                (6.0, 320, 3, 1, 1),
            )
        ),
    )


# Channels, units, image size: the release's compound scaling.
for _index, (_width, _depth, _size) in enumerate((
    (1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 260), (1.2, 1.4, 300),
    (1.4, 1.8, 380), (1.6, 2.2, 456), (1.8, 2.6, 528), (2.0, 3.1, 600),
)):  # fmt: skip
    _source = "arXiv 1905.11946, Table 1" if _index == 0 else "arXiv 1905.11946, Sec. 4; sizes of its release"
    TABLE[f"efficientnet_b{_index}"] = Entry(MobileNet, _efficientnet(_width, _depth), _source, _size)
