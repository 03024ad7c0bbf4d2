"""Parts shared by all networks: a chain of children, the last of which are the head."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, TypedDict

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from senet.blocks import BLOCKS
from senet.errors import InputError
from senet.models.config import NetConfig

__all__ = ["DropPath", "Entry", "FeatureInfo", "Net", "classifier", "global_pool", "run_checkpointed"]


_BLOCKS = tuple(BLOCKS.values())


class FeatureInfo(TypedDict):
    """A level of maps: its channels, by how much it is smaller than the image, and the module that ends it."""

    num_chs: int
    reduction: int
    module: str  # dotted where it sits inside another


class Net(nn.Module):
    """A network whose children run in the order in which they are declared, so that a prefix of them is one too.

    Subclasses declare children, set ``feature_info``, ``num_features`` and, where it differs, ``head_hidden_size``.

    Attributes:
        config: the options it was built from.
        head_names: the modules after the last map, in order, the classifier last; dotted names reach into a child.
        feature_info: a level of maps each, from fine to coarse.
        num_features: channels of the last map.
        head_hidden_size: what the classifier takes.
        grad_checkpointing: see :meth:`set_grad_checkpointing`.
        loaded: what was done to the weights that :func:`senet.create_model` loaded; None for fresh ones.

    Shapes: (N, in_chans, H, W) -> (N, num_classes), or (N, head_hidden_size) where num_classes is 0.
    """

    head_names: ClassVar[tuple[str, ...]] = ("global_pool", "head_drop", "fc")
    config: NetConfig
    feature_info: list[FeatureInfo]
    num_features: int
    grad_checkpointing: bool = False
    loaded: Any = None

    @property
    def head_hidden_size(self) -> int:
        """Number of features that the classifier takes."""
        return self.num_features

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map: (N, in_chans, H, W) -> (N, num_features, h, w)."""
        if self.grad_checkpointing and torch.is_grad_enabled():
            return run_checkpointed(self.trunk(), x)
        for child in self.trunk():
            x = child(x)
        return x

    def trunk(self) -> list[nn.Module]:
        """The children up to the last map, in order."""
        head = {name.partition(".")[0] for name in self.head_names}
        return [child for name, child in self.named_children() if name not in head]

    def forward_head(self, x: Tensor, *, pre_logits: bool = False) -> Tensor:
        """From the last map to logits, or to what the classifier takes: (N, num_features, h, w) -> (N, num_classes)."""
        for name in self.head_names[:-1] if pre_logits else self.head_names:
            x = self.get_submodule(name)(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The last layer: a linear one, or the identity where num_classes is 0."""
        return self.get_submodule(self.head_names[-1])

    def reset_classifier(self, num_classes: int) -> None:
        """Puts a fresh classifier in, for ``num_classes`` classes, or none for 0; on the same device, same dtype.

        Raises:
            InputError: fewer than 0.
        """
        self.config = dataclasses.replace(self.config, num_classes=num_classes)
        like = next(self.parameters())
        place, _, name = self.head_names[-1].rpartition(".")
        fresh = classifier(self.head_hidden_size, num_classes).to(like.device, like.dtype)
        self.get_submodule(place).register_module(name, fresh.train(self.training))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether training keeps only the units' inputs and computes the rest of them twice, to save memory.

        Each unit is one checkpoint (:mod:`torch.utils.checkpoint`), as is each convolution outside one, with what
        follows it. Norms count a batch once: the second computation leaves their running statistics alone.
        """
        self.grad_checkpointing = enable


def run_checkpointed(chain: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Runs modules in a row, each unit of them as a checkpoint."""
    for unit in _units(chain):
        x = _run_checkpointed(unit, x)
    return x


def _units(chain: Iterable[nn.Module]) -> list[list[nn.Module]]:
    """The parts of a chain to checkpoint: each begins with a convolution or a unit of them.

    So none begins with a ReLU that would write over the map kept for it.
    """
    units: list[list[nn.Module]] = [[]]
    for module in _flat(chain):
        if not isinstance(module, _BLOCKS) and any(isinstance(m, nn.Conv2d) for m in module.modules()):
            units.append([])
        units[-1].append(module)
    return [unit for unit in units if unit]


def _flat(chain: Iterable[nn.Module]) -> Iterator[nn.Module]:
    for module in chain:
        if isinstance(module, nn.Sequential):
            yield from _flat(module)
        else:
            yield module


def _run_checkpointed(unit: list[nn.Module], x: Tensor) -> Tensor:
    def run(x: Tensor) -> Tensor:
        for module in unit:
            x = module(x)
        return x

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(unit)

    if torch.compiler.is_compiling():  # what it compiles updates buffers once by itself
        return checkpoint(run, x, use_reentrant=False)
    result: Tensor = checkpoint(run, x, use_reentrant=False, context_fn=contexts)
    return result


@contextmanager
def _statistics_kept(unit: list[nn.Module]) -> Iterator[None]:
    """Norms inside compute as in training, but update nothing."""
    modules = [inner for module in unit for inner in module.modules()]
    norms = [m for m in modules if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, seen) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, seen


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., arXiv 1603.09382): in training a whole branch is left out, image by image.

    What stays is divided by the probability of staying. Shapes: (N, ...) -> (N, ...).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0 or not self.training:
            return x
        stays = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * stays.div_(1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def global_pool() -> nn.Sequential:
    """(N, C, H, W) -> (N, C): the mean of each map."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))


def classifier(features: int, num_classes: int) -> nn.Module:
    """(N, features) -> (N, num_classes), or the identity for no classes.

    Raises:
        InputError: fewer than 0 classes.
    """
    if num_classes < 0:
        raise InputError(f"num_classes is {num_classes}; accepted: 0 (no classifier) or more")
    return nn.Linear(features, num_classes) if num_classes else nn.Identity()


@dataclass(frozen=True)
class Entry:
    """A network in the registry.

    Attributes:
        net: its class; takes ``config``.
        config: its options.
        source: where it is defined: paper with section or table, or file of a release.
        size: height and width in pixels of the images it is made for.
        width: their width, where they are not square.
    """

    net: type[Net]
    config: NetConfig
    source: str
    size: int = 224
    width: int | None = None

    @property
    def image(self) -> tuple[int, int]:
        """Height and width in pixels of the images it is made for."""
        return self.size, self.width or self.size
