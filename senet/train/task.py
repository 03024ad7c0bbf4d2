"""Interface between the one training loop and the task that is learnt in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from senet.train.recipe import BaseRecipe

__all__ = ["Batches", "Score", "Split", "Task"]


class Split(Protocol):
    """The images to train on, or to validate with."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names; a label is an index into them."""

    @property
    def fingerprint(self) -> str:
        """Tells these images, and what is known of them, from others."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on data that was changed or left out, a sentence each."""

    def described(self) -> dict[str, Any]:
        """Facts about the data that users of the weights must know, by name: the classes at least."""

    def __len__(self) -> int:
        """Number of images."""


class Batches(Protocol):
    """A split in batches, each a pure function of the seed, the epoch and its number."""

    def __len__(self) -> int:
        """Micro-batches in an epoch; in training a multiple of ``run.accumulate``."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Any, Any]]:
        """Inputs and targets of an epoch, from batch ``start`` on; ``len`` of the targets is the number of images."""


class Score(Protocol):
    """Score of a network on a split."""

    @property
    def loss(self) -> float | None:
        """On the split; None where the task has none in evaluation."""

    @property
    def best(self) -> float:
        """The number by which networks are judged, in percent; more is better."""

    @property
    def images(self) -> int:
        """Number of images seen."""

    def metrics(self) -> dict[str, Any]:
        """An epoch's numbers by name, as ``metrics.jsonl`` has them."""

    def summary(self) -> dict[str, Any]:
        """All of it, as ``summary.json`` has it."""


R = TypeVar("R", bound=BaseRecipe)
S = TypeVar("S", bound=Split)


class Task(ABC, Generic[R, S]):
    """Interface that the loop needs from a task, and no more.

    Attributes:
        metric: what :attr:`Score.best` is called, ``"top1"`` for example.
    """

    metric: ClassVar[str]

    @abstractmethod
    def check(self, recipe: R) -> None:
        """Refuses what cannot be built or trained, before images are read.

        Raises:
            InputError: says what, and what is accepted.
        """

    @abstractmethod
    def load(self, recipe: R, *, progress: Callable[[int, int], None]) -> tuple[S, S]:
        """The images to train on and to validate with; ``progress`` is told how many of how many are decoded.

        Raises:
            InputError: the data is not there, or not as it should be.
        """

    @abstractmethod
    def loader(self, split: S, recipe: R, *, train: bool, device: torch.device, rank: int, world: int) -> Batches:
        """Hands out a split to process ``rank`` of ``world``."""

    @abstractmethod
    def initial_model(self, recipe: R, split: S) -> nn.Module:
        """The network with the weights that a training starts from, a function of the seed."""

    @abstractmethod
    def loss(self, net: nn.Module, inputs: Any, targets: Any, recipe: R) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of a batch, a mean over its images, and other numbers by name, each a sum over its images.

        Their means over an epoch are in ``metrics.jsonl`` by these names.
        """

    @abstractmethod
    def evaluate(self, model: nn.Module, batches: Iterator[tuple[Any, Any]], split: S, device: torch.device) -> Score:
        """The score on a split; over several processes, each gives its share of the images and all get the whole."""
