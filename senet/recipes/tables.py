"""The paper's tables as trainings: at its own scale, a recipe and one change a row; small, the same comparison.

What the rows are called and what was published for them stands in ``published.toml`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from senet.errors import InputError, did_you_mean
from senet.published import Figure
from senet.recipes import get_recipe
from senet.recipes.small import small
from senet.train.recipe import Model, Recipe

__all__ = ["TABLES", "Arm", "Table", "get_table"]


@dataclass(frozen=True)
class Arm:
    """An arm of a small comparison.

    Attributes:
        label: what tells it from the others of its table.
        model: a name that ``senet models`` lists.
        options: the network's.
        row: the row of the published table that it stands for; empty: none of that table.
    """

    label: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    row: str = ""

    def recipe(self, source: str) -> Recipe:
        """Its training on images of a source, a key of :data:`senet.recipes.small.SOURCES`."""
        return small(Model(self.model, self.options), source)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the TPAMI edition, or a figure or a claim in its text, as trainings.

    Attributes:
        paper: the recipes of its rows at the paper's scale, by name, each for the rows of its network; rows with other
            options differ from it in these alone. Empty: what the rows need besides a classifier, nobody has here.
        small: the arms of the same comparison, the first of which is the plain network; empty: there is none.
        plain: labels of arms to those of their plain twins, where not all have the first one for it.
        source: the images that the small comparison is made on, unless told otherwise.
        why_not: where a scale is left out, why.
    """

    paper: tuple[str, ...] = ()
    small: tuple[Arm, ...] = ()
    plain: Mapping[str, str] = field(default_factory=dict)
    source: str = "cifar10"
    why_not: str = ""

    def baseline(self, arm: Arm) -> Arm | None:
        """The plain twin that an arm is compared with; None for one that is a plain network itself."""
        labels = {other.label: other for other in self.small}
        if self.plain:
            return labels[self.plain[arm.label]] if arm.label in self.plain else None
        return self.small[0] if arm is not self.small[0] else None

    def recipe(self, figure: Figure) -> Recipe | None:
        """The training of a published row at the paper's scale; None where we have none.

        Args:
            figure: any figure of the row.
        """
        for name in self.paper:
            recipe = get_recipe(name)
            if recipe.model.name == figure.model:
                options = {key: value for key, value in figure.options.items() if key != "num_classes"}
                return replace(recipe, model=Model(recipe.model.name, {**recipe.model.options, **options}))
        return None


_DEPTHS = tuple(Arm(f"{se}ResNet-{n}", f"cifar_{se and 'se'}resnet{n}") for n in (8, 14, 20) for se in ("", "SE-"))
_TWINS = {arm.label: arm.label.removeprefix("SE-") for arm in _DEPTHS if arm.label.startswith("SE-")}


def _plain(row: str = "") -> Arm:
    return Arm("ResNet-8", "cifar_resnet8", {}, row)


def _se(row: str, label: str = "", **options: Any) -> Arm:
    return Arm(label or row, "cifar_seresnet8", options, row)


def _ablation(plain: Arm, *arms: Arm) -> Table:
    return Table(paper=_ABLATION, small=(plain, *arms))


_ABLATION = ("imagenet.resnet50_ablation", "imagenet.seresnet50_ablation")
_IMAGENET = (
    *("resnet50", "seresnet50", "resnet101", "seresnet101", "resnet152", "seresnet152"),
    *("resnext50_32x4d", "seresnext50_32x4d", "resnext101_32x4d", "seresnext101_32x4d"),
    *("vgg16_bn", "sevgg16_bn", "bn_inception", "sebn_inception", "inception_resnet_v2", "seinception_resnet_v2"),
)
_CIFAR = ("preresnet110", "sepreresnet110", "preresnet164", "sepreresnet164", "wrn16_8", "sewrn16_8")

TABLES: Mapping[str, Table] = MappingProxyType(
    {
        "1": Table(
            why_not="Table 1 states architectures, which --check complexity compares; there is nothing to train"
        ),
        "2": Table(paper=tuple(f"imagenet.{name}" for name in _IMAGENET), small=_DEPTHS, plain=_TWINS),
        "3": Table(
            paper=("imagenet.mobilenetv1", "imagenet.semobilenetv1", "imagenet.shufflenet", "imagenet.seshufflenet"),
            why_not="the networks of Table 3 reduce images by 32, which leaves nothing of small ones",
        ),
        "4": Table(
            paper=tuple(f"cifar.{name}" for name in (*_CIFAR, "shake26_2x96d", "seshake26_2x96d")),
            small=_DEPTHS,
            plain=_TWINS,
        ),
        "5": Table(
            paper=tuple(f"cifar100.{name}" for name in (*_CIFAR, "shake29_2x4x64d", "seshake29_2x4x64d")),
            small=_DEPTHS,
            plain=_TWINS,
            source="cifar100",
        ),
        "6": Table(
            paper=("places365.resnet152", "places365.seresnet152"),
            why_not="Table 6 is about another large data set; give yours to another table: table2 --data DIR",
        ),
        "7": Table(why_not="Table 7 is of detectors, which senet has none of"),
        "8": Table(
            paper=("imagenet.senet154",),
            why_not="Table 8 compares the largest networks of the time, which nothing small does",
        ),
        "9": Table(
            paper=("imagenet.senet154_320",), why_not="Table 9 is about image sizes that small images do not have"
        ),
        "10": _ablation(
            _plain("ResNet-50"),
            *(_se(f"r = {r}", attn_options={"reduction": r}) for r in (2, 4, 8)),
            _se("r = 16"),
            _se("r = 32", attn_options={"reduction": 32}),
        ),
        "11": _ablation(_plain(), _se("Max", attn_options={"squeeze": "max"}), _se("Avg")),
        "12": _ablation(
            _plain(),
            _se("ReLU", attn_options={"gate": "relu"}),
            _se("Tanh", attn_options={"gate": "tanh"}),
            _se("Sigmoid"),
        ),
        "13": _ablation(_plain("ResNet-50"), *(_se(f"SE_Stage_{n}", stages=(n,)) for n in (2, 3, 4)), _se("SE_All")),
        "14": _ablation(
            _plain(),
            _se("SE"),
            _se("SE-PRE", placement="pre"),
            _se("SE-POST", placement="post"),
            _se("SE-Identity", placement="identity"),
        ),
        "15": Table(
            paper=_ABLATION,
            small=(
                Arm("ResNet-11", "cifar_resnet8", {"unit": "bottleneck"}),
                Arm("SE", "cifar_seresnet8", {"unit": "bottleneck"}, "SE"),
                Arm("SE_3x3", "cifar_seresnet8", {"unit": "bottleneck", "placement": "3x3"}, "SE_3x3"),
            ),
        ),
        "16": _ablation(_plain("ResNet-50"), _se("NoSqueeze", attn_options={"squeeze": "none"}), _se("SE")),
        "footnote 2": Table(
            paper=("imagenet.resnet50_ablation270", "imagenet.seresnet50_ablation270"),
            why_not="footnote 2 is about a schedule of 270 epochs; Table 2 makes the same comparison",
        ),
        "text: overhead": Table(
            paper=("imagenet.resnet50", "imagenet.seresnet50"),
            small=(_plain(), _se("without last stage", stages=(2, 3)), _se("all stages")),
        ),
    }
)
"""By number; ``text: overhead`` is the claim that the last stage needs no blocks (arXiv 1709.01507v4, Sec. 4)."""


def get_table(number: str) -> Table:
    """The trainings of a table.

    Raises:
        InputError: nothing is known of such a table.
    """
    if number not in TABLES:
        raise InputError(f"no table {number!r} can be trained{did_you_mean(number, TABLES)}")
    return TABLES[number]
