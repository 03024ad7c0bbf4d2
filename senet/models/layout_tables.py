"""How others name the modules of the same networks: one line of names a kind of module, read in both directions.

A field in braces stands for a number, or for what the expression after its colon matches. On their side it may be moved,
``{u+1}``, and two fields are counted instead of read: ``{n}``, which unit of the whole network this is, and ``{i}``,
which convolution or block of its unit, both from 0. The first line that fits a module counts, so exceptions come first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from senet.models.inception_resnet_v2 import InceptionResNetV2
from senet.models.inception_v3 import InceptionV3
from senet.models.mobile import MobileNet, MobileNetV3
from senet.models.net import Net
from senet.models.regnet import RegNet
from senet.models.resnet import ResNet
from senet.models.vgg import VGG

__all__ = ["LAYOUTS", "Layout", "Line", "Table"]

_PLAIN = r"{rest:(?!(?:.*\.)?se\.).+}"  # any module that is not inside a block


@dataclass(frozen=True)
class Line:
    """Our name of a module, theirs, and whether a convolution of ours is a linear layer there."""

    ours: str
    theirs: str
    linear: bool = False


@dataclass(frozen=True)
class Table:
    """The names of one family of networks in one layout.

    Attributes:
        net: our class.
        lines: the names.
        needs: options that decide between networks whose tensors are the same: each must have one of these values.
        extra: modules that their networks have for training only.
    """

    net: type[Net]
    lines: tuple[Line, ...]
    needs: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """The names of one library.

    Attributes:
        source: where they were read.
        tables: one or more a family.
        note: what its networks have that others have not, as options of ours; said where tensors do not fit.
    """

    source: str
    tables: tuple[Table, ...]
    note: str = ""


def _lines(*pairs: tuple[str, str] | tuple[str, str, bool]) -> tuple[Line, ...]:
    return tuple(Line(*pair) for pair in pairs)


_SAME = _lines((_PLAIN, _PLAIN))
_LATE_STRIDE = {"unit": ("basic", "bottleneck"), "stride_in": ("3x3",), "stem_pool": ("padded",)}
_IMAGENET = {**_LATE_STRIDE, "stem": ("imagenet",)}
_SEVEN = {"norm_eps": (1e-5,)}  # torchvision 0.29 and timm 1.0.31 part here

_TIMM_SE = _lines(
    ("blocks.{s}.{u}.se.fc1", "blocks.{s}.{u}.se.conv_reduce"),
    ("blocks.{s}.{u}.se.fc2", "blocks.{s}.{u}.se.conv_expand"),
    (_PLAIN, _PLAIN),
)
