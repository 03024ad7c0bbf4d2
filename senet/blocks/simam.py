"""SimAM: a gate for every element, without parameters."""

from __future__ import annotations

from torch import Tensor, nn

from senet.blocks.stages import Recalibrate, gate_stage
from senet.errors import InputError
from senet.kernels import reference
from senet.kernels.layout import pixels

__all__ = ["SimAM"]


class InverseEnergy(nn.Module):
    """Inverse energy of each element, by its distance from the channel's mean; same shape, at least float32."""

    def __init__(self, e_lambda: float) -> None:
        super().__init__()
        self.e_lambda = e_lambda

    def forward(self, u: Tensor) -> Tensor:
        wide = u.to(reference.accumulator_dtype(u.dtype))
        positions = reference.positions(u)
        d = (wide - wide.mean(positions, keepdim=True)).square()
        variance = d.sum(positions, keepdim=True) / max(pixels(u) - 1, 1)
        return d / (4 * (variance + self.e_lambda)) + 0.5


class SimAM(Recalibrate):
    """Simple attention: x = u * sigmoid(d / (4 (var(u_c) + lambda)) + 1/2), d = (u - mean(u_c))^2.

    Yang et al., "SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks", ICML 2021,
    equation 5: the sigmoid of the inverse of a neuron's minimal energy.

    Cost: no parameters and no multiply-adds of layers, but a gate as large as the map, and each of its steps a pass or
    two.

    Differs from the paper: its variance divides by HW; the authors' code, followed here, by HW - 1. A map of one
    pixel, which is not a number there, has variance 0 here and its gate is sigmoid(1/2).

    Not for: memory-bound training, as autograd keeps several maps; a gate that is to be learned or to start at 1: it is
    0.62 at the mean and above it elsewhere, whatever the data are.

    Args:
        channels: channels C of the map; the block computes the same for any number.
        e_lambda: the lambda, above 0; the authors' 1e-4.

    Shapes: (N, C, H, W), (N, C, L) or (N, C, D, H, W) -> the same, dtype and memory format kept.

    Raises:
        InputError: ``e_lambda`` is 0 or below.
    """

    def __init__(self, channels: int, *, e_lambda: float = 1e-4) -> None:  # noqa: ARG002 - every block is given them
        super().__init__()
        if not e_lambda > 0:
            raise InputError(f"e_lambda is {e_lambda}; accepted: above 0 (1e-4 in the paper)")
        self.squeeze = InverseEnergy(e_lambda)
        self.gate = gate_stage("sigmoid")

    def excite(self, z: Tensor) -> Tensor:
        """Nothing is learned: (N, C, H, W) -> (N, C, H, W)."""
        return z
