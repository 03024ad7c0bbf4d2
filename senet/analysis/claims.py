"""Published figures that a count can check: sizes of networks, what SE adds to them, and what follows from others."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import torch
from torch import nn

from senet.analysis.complexity import Complexity, count
from senet.models import create_model
from senet.options import to_plain
from senet.published import NOT_EXPLAINED, RULES, Count, Figure, counts, explain, figures

__all__ = ["Claim", "check_counts", "check_figures", "countable"]


@dataclass(frozen=True)
class Claim:
    """A published number beside ours.

    Attributes:
        where: edition and table, or the source of an exact count.
        row: as printed; of an exact count the network.
        what: the number, in words.
        published: as printed, with its unit.
        ours: the exact count, or what follows from other printed figures.
        agrees: whether it becomes the printed number by a rule that is stated.
        words: the rule; of a difference what is known, or nothing.
    """

    where: str
    row: str
    what: str
    published: str
    ours: str
    agrees: bool
    words: str


def countable(figure: Figure) -> bool:
    """Whether a count, or other printed figures, say what a figure has to be."""
    return figure.metric in _CHECKS


def check_figures(found: Sequence[Figure], *, progress: Callable[[int, int], None] | None = None) -> Iterator[Claim]:
    """Compares printed figures with what they have to be; figures that only training can check are left out.

    Args:
        found: figures, from :func:`senet.published.figures`.
        progress: called with the number of figures done and of all.
    """
    wanted = [figure for figure in found if countable(figure)]
    for done, figure in enumerate(wanted, 1):
        ours, agrees, words = _CHECKS[figure.metric](figure)
        table = figure.table if ":" in figure.table else f"table {figure.table}"
        yield Claim(
            f"{figure.edition}, {table}",
            figure.row,
            figure.metric.replace("_", " "),
            f"{figure.value} {figure.unit}",
            ours,
            agrees,
            words,
        )
        if progress:
            progress(done, len(wanted))


def check_counts(*, progress: Callable[[int, int], None] | None = None) -> Iterator[Claim]:
    """Compares the exact counts of the paper's networks with those of the networks we build, to all digits given."""
    known = counts()
    for done, exact in enumerate(known, 1):
        yield from _counted(exact)
        if progress:
            progress(done, len(known))


def _counted(exact: Count) -> Iterator[Claim]:
    cost = _cost(exact.model, exact.options, exact.image)
    options = f" {json.dumps(to_plain(exact.options))}" if exact.options else ""
    giga = exact.giga_multiply_adds
    pairs: list[tuple[str, Any, Any]] = [
        ("parameters", exact.parameters, cost.total.parameters),
        ("multiply-adds, G", giga, giga and (Decimal(cost.total.multiply_adds) / 10**9).quantize(giga)),
        ("parameters of the blocks", exact.attention_parameters, cost.attention.parameters),
        ("multiply-adds of the blocks", exact.attention_multiply_adds, cost.attention.multiply_adds),
    ]
    for what, published, ours in pairs:
        if published is not None:
            row = f"{exact.model}{options}, {exact.image} px"
            agrees = published == ours
            yield Claim(exact.source, row, what, f"{published:,}", f"{ours:,}", agrees, "equal" if agrees else "")


# Each check gives what the figure has to be, whether it is that, and by what rule.
_Check = tuple[str, bool, str]


def _size(figure: Figure) -> _Check:
    assert figure.model is not None
    assert figure.image is not None
    total = _cost(figure.model, figure.options, figure.image).total
    counted = {name: getattr(total, name) for rule in RULES[figure.metric] for name in rule.parts}
    rule = explain(figure, counted)
    if rule == NOT_EXPLAINED:
        return f"{counted[figure.metric]:,}", False, figure.note
    return f"{counted[figure.metric]:,}", True, "rounded" if rule == "exact" else rule


def _shape(figure: Figure) -> _Check:
    """A cell of Table 1."""
    assert figure.model is not None
    stage = int(figure.row.removeprefix("stage ")) - 1
    net = _network(figure.model, "{}")
    found = {_cell(figure, net, stage, unit) for unit in net.get_submodule(f"layer{stage}").children()}
    return ", ".join(map(str, sorted(found))), found == {figure.value}, "of every unit"


def _cell(figure: Figure, net: Any, stage: int, unit: Any) -> int:
    if figure.metric == "units":
        return len(net.get_submodule(f"layer{stage}"))
    if figure.metric == "output":
        assert figure.image is not None
        return figure.image // net.feature_info[stage]["reduction"]
    if figure.metric == "groups":
        return unit.conv2.groups
    return unit.se.fc1.out_channels if figure.metric == "hidden" else unit.get_submodule(figure.metric).out_channels


def _added(figure: Figure) -> _Check:
    weights = _weights_added(figure)
    return f"{weights:,}", _rounds(Decimal(weights) / 10**6, figure), "weights of the blocks, without biases; rounded"


def _parameters_increase(figure: Figure) -> _Check:
    plain = _plain(figure).total.parameters
    share = 100 * Decimal(_weights_added(figure)) / plain
    return f"{share:.2f} %", _rounds(share, figure), "weights of the blocks, without biases, of the plain network's"


def _multiply_adds_increase(figure: Figure) -> _Check:
    """The paper's 0.26 % is the ratio of two figures that it had rounded."""
    printed = {f.row: f.value for f in figures(edition=figure.edition, table="text: time", metric="multiply_adds")}
    ratio = 100 * (printed["SE-ResNet-50"] / printed["ResNet-50"] - 1)
    with_se, plain = _cost(str(figure.model), figure.options, figure.image or 0), _plain(figure)
    exact = 100 * (Decimal(with_se.total.multiply_adds) / plain.total.multiply_adds - 1)
    words = f"the ratio of the printed {printed['SE-ResNet-50']} G and {printed['ResNet-50']} G; counted it is less"
    return f"{exact:.3f} %", _rounds(ratio, figure), words


def _gain(figure: Figure) -> _Check:
    """Checks a gain against the difference of the errors printed beside it."""
    metric, edition, table = figure.metric.removesuffix("_gain"), figure.edition, figure.table
    if metric.startswith("ap"):
        edition, table = _DETECTION[edition]
    else:
        metric += "_error"
    printed = {f.row: f.value for f in figures(edition=edition, table=table, metric=metric)}
    gain = abs(printed[figure.row] - printed[figure.row.removeprefix("SE-")])
    return f"{gain} {figure.unit}", gain == figure.value, "the difference of the printed figures"


_DETECTION = {"tpami": ("tpami", "7"), "preprint-v3": ("cvpr", "6")}  # where the text's gains have their table

_CHECKS: Mapping[str, Callable[[Figure], _Check]] = {
    **dict.fromkeys(RULES, _size),
    **dict.fromkeys(("output", "units", "conv1", "conv2", "conv3", "groups", "hidden"), _shape),
    **dict.fromkeys(("top1_gain", "top5_gain", "ap_gain", "ap50_gain"), _gain),
    "parameters_added": _added,
    "parameters_increase": _parameters_increase,
    "multiply_adds_increase": _multiply_adds_increase,
}


def _rounds(exact: Decimal, figure: Figure) -> bool:
    return exact.quantize(figure.value) == figure.value


def _weights_added(figure: Figure) -> int:
    """Weights of the blocks: as many as their multiply-adds, for they multiply one pixel."""
    return _cost(str(figure.model), figure.options, figure.image or 0).attention.multiply_adds


def _plain(figure: Figure) -> Complexity:
    """The plain twin's cost."""
    return _cost(str(figure.model).removeprefix("se"), {}, figure.image or 0)


def _cost(model: str, options: Mapping[str, Any], image: int) -> Complexity:
    return _complexity(model, json.dumps(to_plain(options), sort_keys=True), image)


@functools.cache
def _complexity(model: str, options: str, image: int) -> Complexity:
    return count(_network(model, options), (3, image, image))


def _network(model: str, options: str) -> nn.Module:
    with torch.device("meta"):
        return create_model(model, **json.loads(options)).eval()
