"""What surgery did to a model, site by site, and what it left alone and why."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Report"]


@dataclass
class Report:
    """Sites that were taken, and those that were not.

    Attributes:
        taken: path of the gate (of the norm, in a plain tail), and what it became.
        left: path, and why it was left alone.
    """

    taken: list[tuple[str, str]] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        rows = [*self.taken, *((path, f"left alone: {reason}") for path, reason in self.left)]
        width = max((len(path) for path, _ in rows), default=0)
        summary = f"{len(self.taken)} sites taken, {len(self.left)} left alone"
        return "\n".join([*(f"{path:<{width}}  {what}" for path, what in rows), summary])
