"""The account of what surgery did to a model, site by site, and of what it left alone and why."""

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
        verb: ``"attached"``, ``"fused"``, ``"folded"`` or ``"frozen"``.
        taken: path of the gate (of the norm, in a plain tail; of the module before an attached block), and what it
            became.
        left: path, and why it was left alone.
        earlier: what was done to the model before, if anything was.
    """

    verb: str
    taken: list[tuple[str, str]] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    earlier: Report | None = None

    def sort(self, model: nn.Module) -> None:
        """Puts sites in the order of the model's modules."""
        order = {path: index for index, (path, _) in enumerate(model.named_modules())}
        for rows in (self.taken, self.left):
            rows.sort(key=lambda row: order.get(row[0], len(order)))

    def __str__(self) -> str:
        rows = [*self.taken, *((path, f"left alone: {reason}") for path, reason in self.left)]
        width = max((len(path) for path, _ in rows), default=0)
        summary = f"{self.verb}: {len(self.taken)} sites taken, {len(self.left)} left alone"
        before = [] if self.earlier is None else [str(self.earlier)]
        return "\n".join([*before, *(f"{path:<{width}}  {what}" for path, what in rows), summary])


def report(model: nn.Module) -> Report:
    """Returns what surgery did to a model last, with what it did before; print it.

    That is :func:`senet.attach`, :func:`senet.fuse` or :func:`senet.fold`, for example. It is known of the module that
    was given to them: what was done to a part is said by the part's report alone.

    Raises:
        InputError: none of them was applied to it.
    """
    if not isinstance(model, nn.Module) or not has_report(model):
        raise InputError(f"{type(model).__name__} has no blocks attached, and is neither fused nor folded")
    return getattr(model, _WHERE)


def has_report(model: nn.Module, verb: str | None = None) -> bool:
    """Whether anything was done to a model, or one of the verbs."""
    done = _history(model)
    return bool(done) if verb is None else any(each.verb == verb for each in done)


def keep(model: nn.Module, done: Report) -> None:
    """Keeps a report with the model that it is about, after the earlier ones."""
    done.earlier = getattr(model, _WHERE, None)
    setattr(model, _WHERE, done)


def forget(model: nn.Module, verb: str = "fused") -> None:
    """Takes the reports of a verb away again, those of parts too."""
    for module in model.modules():
        history = _history(module)
        if history:
            delattr(module, _WHERE)
        for done in history:
            if done.verb != verb:
                keep(module, done)


def _history(model: nn.Module) -> list[Report]:
    """All reports of a model, the first one first."""
    done: Report | None = vars(model).get(_WHERE)
    history: list[Report] = []
    while done is not None:
        history.insert(0, done)
        done = done.earlier
    return history
