"""A table of the paper as trainings: at its own scale, a recipe and one change a row; small, the same comparison.

What the rows are called and what was published for them stands in ``published.toml`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from senet.errors import InputError
from senet.models.registry import model_config
from senet.published import figures
from senet.recipes import get_recipe
from senet.recipes.small import small
from senet.train.recipe import Model, Recipe

__all__ = ["Arm", "Scale", "Table"]

Scale = Literal["paper", "small"]


@dataclass(frozen=True)
class Arm:
    """An arm of a comparison: a network, to be trained as all others of its table.

    Attributes:
        label: what tells it from the others.
        model: a name that ``senet models`` lists.
        options: the network's.
        row: the row of the published table that it stands for; empty: none of that table.
    """

    label: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    row: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the TPAMI edition, a claim in its text, or a comparison of ours beside them, as trainings.

    Attributes:
        number: as :func:`senet.published.tables` calls it; of ours, a name.
        paper: the recipes of its rows at the paper's scale, by name, each for the rows of its network; rows with other
            options differ from it in these alone.
        small: the arms of the same comparison at :func:`senet.recipes.small.small`'s scale.
        source: the images of the small comparison, unless told otherwise.
        why_not: where a scale is left out, why.
        title: of ours, what is compared; empty for a published table, which has its own.
    """

    number: str
    paper: tuple[str, ...] = ()
    small: tuple[Arm, ...] = ()
    source: str = "cifar10"
    why_not: str = ""
    title: str = ""

    def trainings(self, scale: Scale, source: str | None = None) -> list[tuple[Arm, Recipe]]:
        """The arms and how each is trained.

        Args:
            scale: the paper's, or the small one.
            source: at the small scale, a key of :data:`senet.recipes.small.SOURCES`; None: the table's own.

        Raises:
            InputError: the table has no trainings at this scale; says why.
        """
        found = self._paper() if scale == "paper" else [(arm, _small(arm, source or self.source)) for arm in self.small]
        if not found:
            raise InputError(f"table {self.number} cannot be trained at the scale {scale!r}: {self.why_not}")
        return found

    def _paper(self) -> list[tuple[Arm, Recipe]]:
        if not self.paper:
            return []
        every = [get_recipe(name) for name in self.paper]
        recipes = [recipe for recipe in every if isinstance(recipe, Recipe)]
        rows = {figure.row: figure for figure in figures(edition="tpami", table=self.number)}
        found = []
        for row, figure in rows.items():
            fitting = [recipe for recipe in recipes if recipe.model.name == figure.model]
            if not fitting or row.endswith("(original)"):  # of others, or as others report it
                continue
            options = {name: value for name, value in figure.options.items() if name != "num_classes"}
            recipe = fitting[0]
            model = Model(recipe.model.name, {**recipe.model.options, **options})
            found.append((Arm(row, model.name, model.options, row), replace(recipe, model=model)))
        return found

    def baseline(self, arm: Arm) -> Arm | None:
        """The plain network that an arm is compared with; None for a plain one, or where the table has none.

        The twin by its label, ``"ResNet-14"`` for ``"SE-ResNet-14"``, or else the first plain one of all.
        """
        if not _has_blocks(arm):
            return None
        arms = self.small if arm in self.small else tuple(arm for arm, _ in self._paper())
        plain = {other.label: other for other in arms if not _has_blocks(other)}
        return plain.get(arm.label.removeprefix("SE-"), next(iter(plain.values()), None))


def _small(arm: Arm, source: str) -> Recipe:
    return small(Model(arm.model, arm.options), source)


def _has_blocks(arm: Arm) -> bool:
    return model_config(arm.model, arm.options).attn is not None
