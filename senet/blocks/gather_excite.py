"""Gather-excite: the authors' own generalisation of squeeze, with local extents and learnt gathering."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from senet.blocks.stages import Gate, Recalibrate, gate_stage, squeeze_stage
from senet.blocks.width import Rounding, hidden_width
from senet.errors import InputError
from senet.kernels import reference

__all__ = ["GatherExcite"]


class LocalAvgSqueeze(nn.Module):
    """Average over windows of extent e: kernel 2e-1, stride e; positions outside the map do not count."""

    def __init__(self, extent: int) -> None:
        super().__init__()
        self.extent = extent

    def forward(self, u: Tensor) -> Tensor:
        wide = u.to(reference.accumulator_dtype(u.dtype))
        e = self.extent
        return F.avg_pool2d(wide, 2 * e - 1, stride=e, padding=e - 1, count_include_pad=False)


class GatherExcite(Recalibrate):
    """Gather-excite: x = u * sigmoid(upsample(excite(gather(u)))).

    Hu et al., "Gather-Excite: Exploiting Feature Context in Convolutional Neural Networks", arXiv 1810.12348:
    GE-theta-minus gathers by averages and has no parameters, GE-theta gathers by depthwise convolutions, GE-theta-plus
    adds the two layers of SE. Over the whole map theta-minus, the default, is squeeze and scale without SE's layers.

    Cost: nothing but SE's passes for theta-minus; 11C parameters a halving for theta, or C(HW + 2) for the whole map;
    2C^2/r more for theta-plus. Windows need a gate as large as the map.

    Differs from the paper: nowhere; norms, ReLUs and the convolution of the map's size for extent 0 are those of the
    authors' networks.

    Not for: theta with extent 0 where images change size: its kernel is the map's size. Identity starts of theta-minus,
    which has nothing to learn: each gate is the same function of its own channel's average, and knows no other channel.

    Args:
        channels: channels C of the map.
        extent: 0 gathers over the whole map; 2, 4 or 8 over windows, whose gates are upsampled (nearest).
        gather: ``"avg"`` (theta-minus), or ``"conv"`` (theta): stride-2 depthwise 3x3 convolutions with batch
            norm, log2(extent) of them with ReLU between; for extent 0 one of the full map's size.
        mlp: whether the two layers of SE follow (theta-plus).
        reduction: their ratio r; None means 16 unless ``hidden_channels`` is given.
        hidden_channels: their hidden width itself.
        rounding: how C / r becomes a whole number.
        map_size: height and width of the map, needed by ``gather="conv"`` with extent 0 only.
        gate: the final non-linearity.

    Shapes: (N, C, H, W) -> the same, dtype and memory format kept; with extent 0 and ``gather="avg"`` (N, C, L) and
    (N, C, D, H, W) too.

    Raises:
        InputError: an unknown extent or gather; a full-size convolution without ``map_size``, or another with it;
            widths without ``mlp``.
    """

    def __init__(
        self,
        channels: int,
        *,
        extent: int = 0,
        gather: Literal["avg", "conv"] = "avg",
        mlp: bool = False,
        reduction: float | None = None,
        hidden_channels: int | None = None,
        rounding: Rounding = "paper",
        map_size: tuple[int, int] | None = None,
        gate: Gate = "sigmoid",
    ) -> None:
        super().__init__()
        if extent not in (0, 2, 4, 8):
            raise InputError(f"extent is {extent}; accepted: 0 (the whole map), 2, 4, 8")
        if gather not in ("avg", "conv"):
            raise InputError(f"gather is {gather!r}; accepted: 'avg', 'conv'")
        if map_size is not None and (gather == "avg" or extent):
            raise InputError("map_size is the kernel of gather='conv' over the whole map; give it with that only")
        if not mlp and (reduction is not None or hidden_channels is not None):
            raise InputError("reduction and hidden_channels are the width of the MLP; give mlp=True with them")
        self.extent = extent
        if extent or gather == "conv":
            self.ranks = (4,)
        if gather == "avg":
            self.squeeze = LocalAvgSqueeze(extent) if extent else squeeze_stage("avg")
            self.gather: nn.Module = nn.Identity()
        else:
            self.squeeze = squeeze_stage("none")
            self.gather = _depthwise(channels, extent, map_size)
        self.mlp: nn.Module = nn.Identity()
        if mlp:
            hidden = hidden_width(channels, reduction=reduction, hidden_channels=hidden_channels, rounding=rounding)
            self.mlp = nn.Sequential(
                nn.ReLU(), nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
            )
            self.last = ("mlp.3",)
        elif isinstance(self.gather, nn.Sequential):
            self.last = (f"gather.{len(self.gather) - 1}",)  # the norm of the last convolution
        self.gate = gate_stage(gate)

    def excite(self, z: Tensor) -> Tensor:
        """Logits on the gathered grid: (N, C, H, W) or (N, C, h, w) -> (N, C, h, w)."""
        return self.mlp(self.gather(z))

    def gates(self, u: Tensor) -> Tensor:
        """The gate of a map: (N, C, 1, 1) where the whole map is gathered, else (N, C, H, W)."""
        s = super().gates(u)
        return F.interpolate(s, size=u.shape[-2:]) if self.extent else s  # nearest: a gate holds for its whole window


def _depthwise(channels: int, extent: int, map_size: tuple[int, int] | None) -> nn.Sequential:
    if extent == 0:
        if map_size is None:
            raise InputError(
                "gather='conv' over the whole map is a convolution of the map's size; give map_size=(height, width)"
            )
        return nn.Sequential(
            nn.Conv2d(channels, channels, map_size, groups=channels, bias=False), nn.BatchNorm2d(channels)
        )
    layers: list[nn.Module] = []
    while extent > 1:
        layers += [
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
        extent //= 2
    return nn.Sequential(*layers[:-1])  # no ReLU after the last: the gate follows, or the MLP's own
