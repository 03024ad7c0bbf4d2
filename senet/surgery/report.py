"""What surgery did to a model, site by site, and what it left alone and why."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from senet.errors import InputError

__all__ = ["Report", "forget", "has_report", "keep", "report"]

_WHERE = "_senet_report"


@dataclass
class Report:
    """Sites that were taken, and those that were not.

    Attributes:
        verb: ``"fused"`` or ``"folded"``.
        taken: path of the gate (of the norm, in a plain tail), and what it became.
        left: path, and why it was left alone.
    """

    verb: str
    taken: list[tuple[str, str]] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)

    def sort(self, model: nn.Module) -> None:
        """Puts sites in the order of the model's modules."""
        order = {path: index for index, (path, _) in enumerate(model.named_modules())}
        for rows in (self.taken, self.left):
            rows.sort(key=lambda row: order.get(row[0], len(order)))

    def __str__(self) -> str:
        rows = [*self.taken, *((path, f"left alone: {reason}") for path, reason in self.left)]
        width = max((len(path) for path, _ in rows), default=0)
        summary = f"{len(self.taken)} sites taken, {len(self.left)} left alone"
        return "\n".join([*(f"{path:<{width}}  {what}" for path, what in rows), summary])


def report(model: nn.Module) -> Report:
    """What :func:`~senet.surgery.fuse.fuse` or :func:`~senet.surgery.fold.fold` did to a model; print it.

    Raises:
        InputError: neither was applied to it.
    """
    if not has_report(model):
        raise InputError(f"{type(model).__name__} is neither fused nor folded")
    return getattr(model, _WHERE)


def has_report(model: nn.Module, verb: str | None = None) -> bool:
    """Whether a model is fused or folded, or which of them."""
    return hasattr(model, _WHERE) and (verb is None or getattr(model, _WHERE).verb == verb)


def keep(model: nn.Module, done: Report) -> None:
    """Keeps a report with the model that it is about."""
    setattr(model, _WHERE, done)


def forget(model: nn.Module) -> None:
    """Takes the reports away again, those of parts too."""
    for module in model.modules():
        if hasattr(module, _WHERE):
            delattr(module, _WHERE)
