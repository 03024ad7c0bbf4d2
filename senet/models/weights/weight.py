"""Facts about a file of pretrained weights that are known before it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from senet.models.weights.preprocessing import Preprocessing

__all__ = ["Published", "Weight"]


@dataclass(frozen=True, kw_only=True)
class Published:
    """Accuracy of weights on held-out images.

    The hub's on the validation images of ImageNet-1k, as timm measured it; the package's on those of their own data,
    see :class:`senet.models.weights.own.records.Record`.

    Attributes:
        preprocessing: of the images, one crop each.
        top1: in percent; None where nothing is published.
        top5: in percent.
    """

    preprocessing: Preprocessing
    top1: float | None = None
    top5: float | None = None


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One file of weights, in the package or on the hub, and what is needed to use it.

    Attributes:
        model: the network, by its name in :func:`senet.list_models`.
        tag: timm's word for how it was trained, or ours for what it was trained on.
        hub: the repository, for example ``"timm/seresnet50.a1_in1k"``; None: the file lies in the package.
        published: one or two image sizes; first the one that is used by default.
        trained_on: the data sets, in the order of training.
        file: its name in the repository, or in the package's folder.
        revision: branch, or the commit that is meant for ever.
        sha256: of the file, where it is known beforehand.
        layout: whose names the tensors have; None: the file says it.
        extra: modules that the file has besides the network's.
        num_classes: outputs of the classifier in the file; 0 where it has none.
        license: as timm states it, or ours; None where none is stated.
    """

    model: str
    tag: str
    hub: str | None
    published: tuple[Published, ...]
    trained_on: tuple[str, ...]
    file: str = "model.safetensors"
    revision: str = "main"
    sha256: str | None = None
    layout: Literal["timm", "timm-legacy"] | None = "timm"
    extra: tuple[str, ...] = ()
    num_classes: int = 1000
    license: str | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        """Default preprocessing of images for these weights."""
        return self.published[0].preprocessing

    def __str__(self) -> str:
        return f"{self.model}.{self.tag}"
