"""The networks we have, with what they cost, what was published about them, and which weights there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from senet.analysis.complexity import count
from senet.models import create_model, model_config, model_entry
from senet.models.weights.pretrained import weights_of
from senet.published import NOT_EXPLAINED, RULES, Figure, explain, figures

__all__ = ["Published", "Row", "catalogue", "published"]

_SHAPES = ("px", "n", "channels")  # units of Table 1, which says how networks are built
_ERRORS = ("top1_error", "error")  # of ImageNet, and of CIFAR
_FIRST = ("tpami", "release", "cvpr")  # whose figure stands for a network, where several have one


@dataclass(frozen=True)
class Row:
    """A network in the catalogue.

    Attributes:
        name: as :func:`senet.create_model` takes it.
        attn: its block, None for a plain network.
        size: height in pixels of the images it is made for, at which its work is counted.
        width: likewise.
        parameters: trained numbers.
        multiply_adds: for one image.
        error: published single-crop top-1 error in percent; None where there is none, or only of a variant.
        error_source: edition and table of ``error``.
        weights: tags of pretrained weights, the default first.
        source: where the network is defined.
    """

    name: str
    attn: str | None
    size: int
    width: int
    parameters: int
    multiply_adds: int
    error: float | None
    error_source: str
    weights: tuple[str, ...]
    source: str

    @property
    def px(self) -> str:
        """The images' size in words."""
        return str(self.size) if self.width == self.size else f"{self.size}x{self.width}"


def catalogue(names: Sequence[str], *, progress: Callable[[int, int], None] | None = None) -> list[Row]:
    """A row for each network, in the order given.

    Args:
        names: of networks.
        progress: is told how many of how many are counted.
    """
    rows = []
    for done, name in enumerate(names, 1):
        entry = model_entry(name)
        cost = _count(name, {}, entry.image)
        error = _error(name, entry.size)
        rows.append(
            Row(
                name=name,
                attn=entry.config.attn,
                size=entry.size,
                width=entry.image[1],
                parameters=cost["parameters"],
                multiply_adds=cost["multiply_adds"],
                error=None if error is None else float(error.value),
                error_source="" if error is None else f"{error.edition}, table {error.table}",
                weights=tuple(weight.tag for weight in weights_of(name)),
                source=entry.source,
            )
        )
        if progress is not None:
            progress(done, len(names))
    return rows


def _error(name: str, size: int) -> Figure | None:
    found = [
        figure
        for figure in figures(model=name)
        if figure.metric in _ERRORS
        and figure.image == size
        and "(original)" not in figure.row
        and _same(name, figure.options, {})
    ]
    return next((f for edition in _FIRST for f in found if f.edition == edition), None)


@dataclass(frozen=True)
class Published:
    """Published figures of a network in one row of a table.

    Attributes:
        where: edition and table.
        row: as printed there.
        figures: as printed.
        sizes: for each figure that is a size our exact count of it, and by which rule it becomes the printed one, or
            that none does.
    """

    where: str
    row: str
    figures: tuple[Figure, ...]
    sizes: tuple[tuple[Figure, int, str], ...]


def published(name: str, options: Mapping[str, Any]) -> list[Published]:
    """Returns the published figures of a network with the options given, beside our own counts.

    Args:
        name: of the network.
        options: those that :func:`senet.create_model` was given beside the name.
    """
    rows: dict[tuple[str, str], list[Figure]] = {}
    for figure in figures(model=name):
        if figure.unit not in _SHAPES and _same(name, figure.options, options):
            table = figure.table if ":" in figure.table else f"table {figure.table}"
            rows.setdefault((f"{figure.edition}, {table}", figure.row), []).append(figure)
    return [Published(*key, tuple(found), tuple(_sizes(found, options))) for key, found in rows.items()]


def _same(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two spellings of options mean one network."""
    return model_config(name, one) == model_config(name, other)


def _sizes(found: Sequence[Figure], options: Mapping[str, Any]) -> Iterator[tuple[Figure, int, str]]:
    for figure in found:
        if figure.metric in RULES and figure.model is not None and figure.image is not None:
            counted = _count(figure.model, options, (figure.image, figure.image))
            yield figure, counted[figure.metric], _in_words(figure, explain(figure, counted))


def _in_words(figure: Figure, rule: str) -> str:
    if rule == NOT_EXPLAINED:
        return "no rule known gives the published figure"
    if figure.rule:
        return f"the table {figure.rule}"
    return "which rounds to it" if rule == "exact" else f"the published figure is that of a count that {rule}"


def _count(name: str, options: Mapping[str, Any], image: tuple[int, int]) -> dict[str, int]:
    with torch.device("meta"):
        net = create_model(name, **options)
    return asdict(count(net, (3, *image)).total)
