"""The paper's tables as trainings, by their numbers in the TPAMI edition, and a comparison of ours beside them.

What the rows are called and what was published for them stands in ``published.toml`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from senet.errors import InputError, did_you_mean
from senet.recipes.table import Arm, Table

__all__ = ["TABLES", "get_table"]

_DEPTHS = tuple(Arm(f"{se}ResNet-{n}", f"cifar_{se and 'se'}resnet{n}") for n in (8, 14, 20) for se in ("", "SE-"))


def _plain(row: str = "") -> Arm:
    return Arm("ResNet-8", "cifar_resnet8", {}, row)


def _se(row: str, label: str = "", **options: Any) -> Arm:
    return Arm(label or row, "cifar_seresnet8", options, row)


def _ablation(number: str, plain: Arm, *arms: Arm) -> Table:
    return Table(number=number, paper=_ABLATION, small=(plain, *arms))


_ABLATION = ("imagenet.resnet50_ablation", "imagenet.seresnet50_ablation")
_IMAGENET = (
    *("resnet50", "seresnet50", "resnet101", "seresnet101", "resnet152", "seresnet152"),
    *("resnext50_32x4d", "seresnext50_32x4d", "resnext101_32x4d", "seresnext101_32x4d"),
    *("vgg16_bn", "sevgg16_bn", "bn_inception", "sebn_inception", "inception_resnet_v2", "seinception_resnet_v2"),
)
_CIFAR = ("preresnet110", "sepreresnet110", "preresnet164", "sepreresnet164", "wrn16_8", "sewrn16_8")

_TABLES = (
    Table(
        number="1", why_not="Table 1 states architectures, which --check complexity compares; there is nothing to train"
    ),
    Table(number="2", paper=tuple(f"imagenet.{name}" for name in _IMAGENET), small=_DEPTHS),
    Table(
        number="3",
        paper=("imagenet.mobilenetv1", "imagenet.semobilenetv1", "imagenet.shufflenet", "imagenet.seshufflenet"),
        why_not="the networks of Table 3 reduce images by 32, which leaves nothing of small ones",
    ),
    Table(
        number="4",
        paper=tuple(f"cifar.{name}" for name in (*_CIFAR, "shake26_2x96d", "seshake26_2x96d")),
        small=_DEPTHS,
    ),
    Table(
        number="5",
        paper=tuple(f"cifar100.{name}" for name in (*_CIFAR, "shake29_2x4x64d", "seshake29_2x4x64d")),
        small=_DEPTHS,
        source="cifar100",
    ),
    Table(
        number="6",
        paper=("places365.resnet152", "places365.seresnet152"),
        why_not="Table 6 is about another large data set; give yours to another table: table2 --data DIR",
    ),
    Table(
        number="7",
        why_not="Table 7 is of detectors; `senet recipes detection.*` has its trainings",
    ),
    Table(
        number="8",
        paper=("imagenet.senet154",),
        why_not="Table 8 compares the largest networks of the time, which nothing small does",
    ),
    Table(
        number="9",
        paper=("imagenet.senet154_320",),
        why_not="Table 9 is about image sizes that small images do not have",
    ),
    _ablation(
        "10",
        _plain("ResNet-50"),
        *(_se(f"r = {r}", attn_options={"reduction": r}) for r in (2, 4, 8)),
        _se("r = 16"),
        _se("r = 32", attn_options={"reduction": 32}),
    ),
    _ablation("11", _plain(), _se("Max", attn_options={"squeeze": "max"}), _se("Avg")),
    _ablation(
        "12",
        _plain(),
        _se("ReLU", attn_options={"gate": "relu"}),
        _se("Tanh", attn_options={"gate": "tanh"}),
        _se("Sigmoid"),
    ),
    _ablation("13", _plain("ResNet-50"), *(_se(f"SE_Stage_{n}", stages=(n,)) for n in (2, 3, 4)), _se("SE_All")),
    _ablation(
        "14",
        _plain(),
        _se("SE"),
        _se("SE-PRE", placement="pre"),
        _se("SE-POST", placement="post"),
        _se("SE-Identity", placement="identity"),
    ),
    Table(
        number="15",
        paper=_ABLATION,
        small=(
            Arm("ResNet-11", "cifar_resnet8", {"unit": "bottleneck"}),
            Arm("SE", "cifar_seresnet8", {"unit": "bottleneck"}, "SE"),
            Arm("SE_3x3", "cifar_seresnet8", {"unit": "bottleneck", "placement": "3x3"}, "SE_3x3"),
        ),
    ),
    _ablation("16", _plain("ResNet-50"), _se("NoSqueeze", attn_options={"squeeze": "none"}), _se("SE")),
    Table(
        number="footnote 2",
        paper=("imagenet.resnet50_ablation270", "imagenet.seresnet50_ablation270"),
        why_not="footnote 2 is about a schedule of 270 epochs; Table 2 makes the same comparison",
    ),
    Table(
        number="text: overhead",
        paper=("imagenet.resnet50", "imagenet.seresnet50"),
        small=(_plain(), _se("without last stage", stages=(2, 3)), _se("all stages")),
    ),
    # What tutorials draw for SE though it is none; docs/why.md says of each why it is wrong.
    Table(
        number="structures",
        title="Drawn for SE by tutorials, and not SE",
        small=(
            _plain(),
            _se("", "SE"),
            _se("", "scale without layers", attn="ge"),
            _se("", "convolution for squeeze", attn_options={"squeeze": "conv"}),
            _se("", "gate of the input", placement="parallel"),
        ),
        why_not="nobody published these structures; train them small",
    ),
)

TABLES: Mapping[str, Table] = MappingProxyType({table.number: table for table in _TABLES})
"""By number; ``text: overhead`` is the claim that the last stage needs no blocks (arXiv 1709.01507v4, Sec. 4);
``structures`` is ours."""


def get_table(number: str) -> Table:
    """The trainings of a table.

    Raises:
        InputError: nothing is known of such a table.
    """
    if number not in TABLES:
        raise InputError(f"no table {number!r} can be trained{did_you_mean(number, TABLES)}")
    return TABLES[number]
