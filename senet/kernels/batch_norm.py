"""Batch normalisation from the moments of single images: what is left of a norm once the map has been read.

Ioffe and Szegedy, arXiv 1502.03167, Algorithm 1. All tensors here are small; autograd sees ordinary operators.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["batch_moments", "merged_over_processes", "widest"]


def batch_moments(mean: Tensor, rest: Tensor, m2: Tensor, pixels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Merges the moments of images by Chan's rule, so that nothing cancels where the mean is large.

    There means differ by less than their rounding. So their own mean is taken in float64, with what rounding left.

    Args:
        mean: mean of each image's channel, (N, C).
        rest: what its rounding left, (N, C).
        m2: sum of squared deviations from it, (N, C).
        pixels: H * W.

    Returns:
        Mean (C,), in float64; how far each image's (rounded) mean is from it (N, C) and the sum of squared
        deviations from it (C,), in the dtype of ``m2``; how many values went in, a tensor ().
    """
    mu = (widest(mean) + widest(rest)).mean(0)
    apart = (widest(mean) - mu).to(m2.dtype)
    with torch.no_grad():  # it counts in the value alone
        rounding = pixels * (rest * (2 * apart + rest)).sum(0)
    total = m2.sum(0) + pixels * apart.square().sum(0) + rounding
    return mu, apart, total, mu.new_tensor(float(mean.shape[0] * pixels))


def widest(x: Tensor) -> Tensor:
    """In float64, where the device has it."""
    return x if x.device.type == "mps" else x.double()


def merged_over_processes(
    mu: Tensor, total: Tensor, count: Tensor, group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The same over all processes of a group, each with its own count: what SyncBatchNorm normalises with.

    Differentiable: the gradients of all processes arrive at each one's moments.
    """
    from torch.distributed.nn.functional import all_gather

    own = torch.cat((mu, total.to(mu.dtype), count.reshape(1)))
    every = torch.stack(all_gather(own, group=group))
    channels = mu.numel()
    mus, totals, counts = every[:, :channels], every[:, channels:-1], every[:, -1:].detach()
    merged_count = counts.sum()
    merged_mu = (counts * mus).sum(0) / merged_count
    merged_total = (totals + counts * (mus - merged_mu).square()).sum(0)
    return merged_mu, merged_total.to(total.dtype), merged_count
