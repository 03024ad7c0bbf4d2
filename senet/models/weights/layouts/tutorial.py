"""The names in a Korean review of the paper with code of its own, which readers train and then want here."""

from __future__ import annotations

from senet.models.resnet import ResNet
from senet.models.weights.layouts.names import Layout, Table, lines

__all__ = ["TUTORIAL"]

_UNIT = "conv{s+1}.{u}"  # its stages have the paper's numbers

TUTORIAL = Layout(
    source="a Korean review of the paper with code of its own: SE-ResNet-50, 101, 152 and SE-ResNeXt-50, 101",
    note="its blocks have rounding=paper and biases; its classifier has 10 classes unless told otherwise",
    tables=(
        Table(
            ResNet,
            lines(
                ("conv1", "conv1.0"),
                ("bn1", "conv1.1"),
                ("layer{s}.{u}.conv{k}", f"{_UNIT}.conv{{k}}.0"),
                ("layer{s}.{u}.bn{k}", f"{_UNIT}.conv{{k}}.1"),
                ("layer{s}.{u}.downsample.{k}", f"{_UNIT}.residual.{{k}}"),  # its word for the shortcut
                ("layer{s}.{u}.se.fc1", f"{_UNIT}.se_block.excitation.0", True),
                ("layer{s}.{u}.se.fc2", f"{_UNIT}.se_block.excitation.2", True),
                ("fc", "fc"),
            ),
            {"unit": ("bottleneck",), "stem": ("imagenet",)},
            {"stem_pool": ("padded",), "stride_in": ("3x3",), "placement": ("standard",)},
        ),
    ),
)
