"""GCT: the gate of a channel from how large it is beside the others."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from senet.blocks.stages import OnePlus, Recalibrate, check_rank
from senet.errors import InputError
from senet.kernels import reference

__all__ = ["GCT"]

EPS = 1e-5  # the authors'
Norm = Literal["l2", "l1"]


class NormSqueeze(nn.Module):
    """The l2 or l1 norm over positions: (N, C, H, W) -> (N, C, 1, 1), at least float32."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, u: Tensor) -> Tensor:
        wide = u.to(reference.accumulator_dtype(u.dtype))
        if self.norm == "l1":
            return wide.abs().sum(reference.positions(u), keepdim=True)
        return (wide.square().sum(reference.positions(u), keepdim=True) + EPS).sqrt()


class GCT(Recalibrate):
    """Gated channel transformation: x = u * (1 + tanh(gamma_c e_c / rms(e) + beta_c)), e_c = alpha_c ||u_c||.

    Yang et al., "Gated Channel Transformation for Visual Recognition", arXiv 1909.11519, equations 2 to 4.

    Cost: 3C parameters, no multiply-adds of layers; eager PyTorch writes the squares of the map and reads them.

    Differs from the paper: its eps stands beside a sum over channels, the authors' beside the mean, as here: C times as
    much.

    Not for: a single site a unit, as at the sites of SE, if its published gains are wanted: its authors put one before
    every convolution. Channels that are to influence each other one by one: they only compete.

    gamma and beta start at 0, alpha at 1: a new block is the identity. All is computed in float32 or wider, whatever
    the parameters are.

    Args:
        channels: channels C of the map.
        norm: ``"l2"``, or ``"l1"`` with the mean of |e| in the place of rms(e).

    Shapes: (N, C, H, W), (N, C, L) or (N, C, D, H, W) -> the same, dtype and memory format kept.

    Raises:
        InputError: an unknown ``norm``.
    """

    def __init__(self, channels: int, *, norm: Norm = "l2") -> None:
        super().__init__()
        if norm not in ("l2", "l1"):
            raise InputError(f"norm is {norm!r}; accepted: 'l2', 'l1'")
        self.squeeze = NormSqueeze(norm)
        self.alpha = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gate = OnePlus(nn.Tanh())
        self.norm = norm

    def excite(self, z: Tensor) -> Tensor:
        """Norms relative to those of the other channels: (N, C, 1, 1) -> (N, C, 1, 1), and of any other rank."""
        alpha, gamma, beta = (p.flatten().to(z.dtype) for p in (self.alpha, self.gamma, self.beta))
        e = z.flatten(1) * alpha
        if self.norm == "l1":
            relative = e / (e.abs().mean(1, keepdim=True) + EPS)
        else:
            relative = e * (e.square().mean(1, keepdim=True) + EPS).rsqrt()
        return (gamma * relative + beta).view_as(z)

    def gates(self, u: Tensor) -> Tensor:
        """The gate of a map, (N, C, 1, 1): never in half precision, where norms and their squares overflow."""
        check_rank(self, u)
        return self.gate(self.excite(self.squeeze(u)))

    def start_as_identity(self) -> None:
        """Makes the gate exactly 1, as it is in a new block: gamma and beta become zero."""
        with torch.no_grad():
            self.gamma.zero_()
            self.beta.zero_()
