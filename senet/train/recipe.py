"""A recipe: everything that decides how a network is trained, as one frozen, typed value.

Two runs of the same recipe on the same machine give the same weights. A recipe is changed by name,
``recipe.override({"optim.lr": 0.1})``, and the changed value is saved beside the results.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

from senet.errors import InputError
from senet.models.weights.preprocessing import Preprocessing
from senet.options import build, override

__all__ = ["BaseRecipe", "Data", "Images", "Loss", "Model", "Optim", "Recipe", "Run", "Schedule", "read_plain"]


@dataclass(frozen=True)
class Model:
    """Network: a name that ``senet models`` lists, and its options (``senet info`` shows them)."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


class Images(Protocol):
    """Fields that the data of every task has; each is as in :class:`Data`."""

    @property
    def source(self) -> str: ...
    @property
    def root(self) -> str | None: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def workers(self) -> int: ...
    @property
    def val_fraction(self) -> float: ...
    @property
    def limit(self) -> int | None: ...


@dataclass(frozen=True, kw_only=True)
class Data(Preprocessing):
    """Images, their preprocessing (:class:`Preprocessing`), augmentation and batches."""

    what: ClassVar[str] = "data"

    source: Literal["fashion-mnist", "cifar10", "cifar100", "folder", "synthetic"] = field(kw_only=False)
    root: str | None = None  # where the images lie; `--data`
    size: int = 32  # pixels, height and width of what the network sees
    augment: Literal["none", "crop-flip", "resized-crop"] = "crop-flip"
    pad: int = 4  # crop-flip: zero pixels on each side
    cutout: int = 0  # side in pixels of a square hole in each image, after the augmentation; 0: none
    # Last, images of a batch are mixed in pairs by a share of Beta(mixup, mixup); 0: none. train_top1 is then the share
    # of mixtures whose larger class was hit, and not to be compared with val_top1.
    mixup: float = 0.0
    min_area: float = 0.08  # resized-crop: smallest share of the image's area
    rotation: float = 0.0  # degrees: the image, or the part that resized-crop took, is turned up to so far either way
    jitter: int = 0  # then each pixel of each channel is changed by up to so much of 0..255 either way
    batch_size: int = 128  # over all processes and accumulation steps together
    workers: int = 2  # processes that decode, where images do not live in memory
    cache: Literal["auto", "memory", "disk"] = "auto"  # auto: memory where all decoded images fit in 2 GiB
    val_fraction: float = 0.1  # share held out where a folder has no val split
    limit: int | None = None  # train on at most so many images


@dataclass(frozen=True)
class Optim:
    """The optimizer."""

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    momentum: float = 0.9  # sgd
    nesterov: bool = False  # sgd
    betas: tuple[float, float] = (0.9, 0.999)  # adamw
    weight_decay: float = 1e-4
    norm_weight_decay: float | None = None  # for biases and norm weights; None: as the others
    clip_grad_norm: float | None = None


@dataclass(frozen=True)
class Schedule:
    """The learning rate over time, as a factor on ``optim.lr``."""

    name: Literal["constant", "step", "cosine", "plateau"] = "step"
    epochs: int = 200
    warmup: float = 0.0  # share of the training, from 0 to below 1: linear, from `warmup_factor`
    warmup_factor: float = 0.1
    milestones: tuple[float, ...] = ()  # step: shares of the training after which the rate is multiplied by gamma
    gamma: float = 0.1  # step, plateau
    patience: int = 5  # plateau: epochs without a better validation loss
    final_factor: float = 0.0  # cosine: where it ends
    freeze_norms: float | None = None  # share of the training; epochs after it use and keep the norms' statistics


@dataclass(frozen=True)
class Loss:
    """Cross-entropy."""

    label_smoothing: float = 0.0


@dataclass(frozen=True)
class Run:
    """Execution of the training; `seed` decides initial weights, order of images and augmentation."""

    seed: int = 0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = False
    compile: bool = False
    deterministic: bool = False  # refuse operators that are not; on CUDA the price of exact resumption
    accumulate: int = 1  # gradient accumulation steps in a batch
    ema_decay: float | None = None  # exponential moving average of the weights, used for evaluation
    log_every: int = 20  # steps
    save_every: int | None = None  # steps between checkpoints inside an epoch; there is always one at its end
    tensorboard: bool = False


@dataclass(frozen=True)
class BaseRecipe:
    """One training, complete, as the loop sees it; each task's recipe adds what it needs, and says what it is."""

    name: str
    model: Model
    data: Images
    optim: Optim = field(default_factory=Optim)
    schedule: Schedule = field(default_factory=Schedule)
    run: Run = field(default_factory=Run)

    def __post_init__(self) -> None:
        """Refuses values that no training could have.

        Raises:
            InputError: names the field, its value and what is accepted.
        """
        _check_training(self)

    @property
    def task(self) -> str:
        """Task of the training, a name of :mod:`senet.train.tasks`."""
        raise NotImplementedError

    @property
    def lr(self) -> float:
        """The full learning rate."""
        return self.optim.lr

    def override(self, changes: Mapping[str, Any]) -> Self:
        """This recipe with some fields changed: ``{"optim.lr": 0.1, "model.options.placement": "pre"}``."""
        return override(self, changes, what=f"recipe {self.name!r}")

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], *, what: str = "recipe") -> Self:
        """The recipe that :func:`senet.options.to_plain` took apart."""
        return build(cls, plain, what=what)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a recipe from the JSON of :func:`senet.options.to_plain`.

        Raises:
            InputError: the file is not a recipe.
        """
        return cls.from_plain(read_plain(path), what=f"the recipe {path}")


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """The training of a classifier."""

    data: Data
    loss: Loss = field(default_factory=Loss)

    def __post_init__(self) -> None:
        """Refuses values that no training could have.

        Raises:
            InputError: names the field, its value and what is accepted.
        """
        super().__post_init__()
        _check(self)

    @property
    def task(self) -> str:
        """Classification."""
        return "classification"


def read_plain(path: Path) -> Any:
    """The content of a recipe's file, not looked at.

    Raises:
        InputError: the file is missing, or no JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is not a recipe: {error}") from None


def _check_training(recipe: BaseRecipe) -> None:
    data, optim, schedule, run = recipe.data, recipe.optim, recipe.schedule, recipe.run
    at_least_one = {
        "data.batch_size": data.batch_size,
        "schedule.epochs": schedule.epochs, "run.accumulate": run.accumulate, "run.log_every": run.log_every,
        "data.limit": data.limit, "run.save_every": run.save_every,
    }  # fmt: skip
    at_least_zero = {
        "optim.lr": optim.lr, "optim.momentum": optim.momentum, "optim.weight_decay": optim.weight_decay,
        "data.workers": data.workers,
        "optim.norm_weight_decay": optim.norm_weight_decay, "optim.clip_grad_norm": optim.clip_grad_norm,
        "schedule.patience": schedule.patience, "run.seed": run.seed, "schedule.gamma": schedule.gamma,
        "schedule.final_factor": schedule.final_factor, "schedule.warmup_factor": schedule.warmup_factor,
    }  # fmt: skip
    below_one = {
        "data.val_fraction": data.val_fraction,
        "run.ema_decay": run.ema_decay, "schedule.warmup": schedule.warmup,
        "schedule.freeze_norms": schedule.freeze_norms,
        **{f"schedule.milestones[{i}]": share for i, share in enumerate(schedule.milestones)},
        **{f"optim.betas[{i}]": beta for i, beta in enumerate(optim.betas)},
    }  # fmt: skip
    for name, value in at_least_one.items():
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; accepted: 1 or more")
    for name, number in at_least_zero.items():
        _at_least_zero(name, number)
    for name, number in below_one.items():
        _below_one(name, number)
    if run.seed >= 2**32:
        raise InputError(f"run.seed is {run.seed}; accepted: below 2**32")
    if optim.nesterov and optim.momentum == 0:
        raise InputError("optim.nesterov needs optim.momentum above 0")
    if schedule.name == "step" and not schedule.milestones:
        raise InputError(
            "schedule.name is 'step' without schedule.milestones; give shares of the training such as [0.5, 0.75], "
            "or another schedule"
        )
    if data.batch_size % run.accumulate:
        raise InputError(f"data.batch_size={data.batch_size} is not a multiple of run.accumulate={run.accumulate}")


def _check(recipe: Recipe) -> None:
    data = recipe.data
    for name in ("pad", "cutout", "mixup"):
        _at_least_zero(f"data.{name}", getattr(data, name))
    _below_one("loss.label_smoothing", recipe.loss.label_smoothing)
    if not 0 < data.min_area <= 1:
        raise InputError(f"data.min_area is {data.min_area}; accepted: above 0, up to 1")
    if not 0 <= data.rotation <= 180:
        raise InputError(f"data.rotation is {data.rotation}; accepted: degrees from 0 to 180")
    if not 0 <= data.jitter <= 255:
        raise InputError(f"data.jitter is {data.jitter}; accepted: from 0 to 255")
    if data.cutout > data.size:
        raise InputError(f"data.cutout is {data.cutout}, larger than data.size={data.size}; give at most that")


def _at_least_zero(name: str, number: float | None) -> None:
    if number is not None and not (math.isfinite(number) and number >= 0):
        raise InputError(f"{name} is {number}; accepted: 0 or more")


def _below_one(name: str, number: float | None) -> None:
    if number is not None and not 0 <= number < 1:
        raise InputError(f"{name} is {number}; accepted: from 0 to below 1")
