"""Shake-shake: two maps mixed at random, with other shares for their gradients."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["BackwardMix", "ForwardMix", "MixPer", "ShakeMix"]

ForwardMix = Literal["shake", "even"]
BackwardMix = Literal["shake", "even", "keep"]
MixPer = Literal["image", "batch"]


class ShakeMix(nn.Module):
    """Mixes two maps, in training with other shares on the way back than on the way there.

    Forward it computes alpha a + (1 - alpha) b; backward a gets beta times the gradient, and b the rest. In
    evaluation both are 1/2. Shares come from PyTorch's global generator, at every call anew. arXiv 1705.07485, Sec. 2.

    Args:
        forward_mix: alpha: ``"shake"`` draws it uniformly from 0 to 1, ``"even"`` is 1/2.
        backward_mix: beta: likewise, or ``"keep"``, which is alpha again.
        per: draw shares for each ``"image"``, or for the whole ``"batch"``.

    Shapes: twice (N, C, H, W) -> (N, C, H, W).
    """

    def __init__(self, forward_mix: ForwardMix, backward_mix: BackwardMix, per: MixPer) -> None:
        super().__init__()
        self.forward_mix = forward_mix
        self.backward_mix = backward_mix
        self.per = per

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if not self.training:
            return (a + b) / 2
        difference = a - b
        alpha = self._share(self.forward_mix, a)
        if self.backward_mix == "keep":
            return b + alpha * difference
        # What autograd sees is mixed by beta; what it does not see makes the value that of alpha.
        beta = self._share(self.backward_mix, a)
        return b + beta * difference + ((alpha - beta) * difference).detach()

    def _share(self, mix: str, like: Tensor) -> Tensor:
        shape = (like.shape[0] if self.per == "image" else 1, 1, 1, 1)
        if mix == "even":
            return like.new_full(shape, 0.5)
        return torch.rand(shape, device=like.device).to(like.dtype)

    def extra_repr(self) -> str:
        return f"forward={self.forward_mix!r}, backward={self.backward_mix!r}, per={self.per!r}"
