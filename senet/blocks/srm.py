"""SRM: the gate of a channel from its own mean and standard deviation."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor, nn

from senet.blocks.stages import Gate, Recalibrate, gate_stage
from senet.kernels import reference
from senet.kernels.layout import pixels

__all__ = ["SRM"]

EPS = 1e-5  # under the root, as in the authors' code


class MeanStdSqueeze(nn.Module):
    """Mean and standard deviation over positions: (N, C, H, W) -> (N, C, 2, 1), at least float32; of any rank."""

    def forward(self, u: Tensor) -> Tensor:
        wide = u.to(reference.accumulator_dtype(u.dtype))
        one_pixel = pixels(u) == 1
        var, mean = torch.var_mean(wide, reference.positions(u), correction=0 if one_pixel else 1, keepdim=True)
        return torch.cat([mean, (var + EPS).sqrt()], dim=2)


class SRM(Recalibrate):
    """Style-based recalibration: x = u * sigmoid(bn(w_c1 mean(u_c) + w_c2 std(u_c))).

    Lee et al., "SRM: A Style-based Recalibration Module for Convolutional Neural Networks", arXiv 1903.10829, sec. 3.

    Cost: 4C parameters, 2C multiply-adds; the passes of SE, as mean and deviation take one.

    Differs from the paper: its standard deviation divides by HW; the authors' code, followed here, by HW - 1, and
    has 1e-5 under the root. A map of one pixel, which is not a number there, has standard deviation 0 here.

    Not for: batches of one image in training, of which the norm has one value a channel (PyTorch refuses them);
    channels that should influence each other, which only the other blocks let them.

    Weights start at zero, so that every gate starts at 1/2. Those of the authors, ``cfc`` (C, 2), load as they are.

    Args:
        channels: channels C of the map.
        gate: the final non-linearity.

    Shapes: (N, C, H, W), (N, C, L) or (N, C, D, H, W) -> the same, dtype and memory format kept.
    """

    last = ("bn",)

    def __init__(self, channels: int, *, gate: Gate = "sigmoid") -> None:
        super().__init__()
        self.squeeze = MeanStdSqueeze()
        self.cfc = nn.Conv1d(channels, channels, 2, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.gate = gate_stage(gate)
        nn.init.zeros_(self.cfc.weight)
        self.register_load_state_dict_pre_hook(_accept_two_columns)

    def excite(self, z: Tensor) -> Tensor:
        """Each channel's own layer, normalised: (N, C, 2, 1) -> (N, C, 1, 1)."""
        return self.bn(self.cfc(z.flatten(2)).unsqueeze(-1))

    def start_as_identity(self) -> None:
        """As :meth:`Recalibrate.start_as_identity`; the last layer is the norm. Before it, zeros become random.

        Of zeros the norm has a variance of 0, and blows up whatever a step puts in their place.
        """
        super().start_as_identity()
        if not self.cfc.weight.any():
            self.cfc.reset_parameters()
            self.bn.reset_running_stats()


def _accept_two_columns(_module: nn.Module, state_dict: MutableMapping[str, Any], prefix: str, *_rest: Any) -> None:
    theirs = state_dict.pop(f"{prefix}cfc", None)
    if theirs is not None:
        state_dict[f"{prefix}cfc.weight"] = theirs.unsqueeze(1)
