"""Batch normalisation from the moments of single images: what is left of a norm once the map has been read.

Ioffe and Szegedy, arXiv 1502.03167, Algorithm 1. All tensors here are small; autograd sees ordinary operators.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["batch_moments", "merged_over_processes"]


def batch_moments(mean: Tensor, m2: Tensor, pixels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Merges the moments of images by Chan's rule, so that nothing cancels where the mean is large.

    Args:
        mean: mean of each image's channel, (N, C).
        m2: sum of squared deviations from it, (N, C).
        pixels: H * W.

    Returns:
        Mean (C,), sum of squared deviations from it (C,), and how many values went in, a tensor ().
    """
    mu = mean.mean(0)
    total = m2.sum(0) + pixels * (mean - mu).square().sum(0)
    return mu, total, mean.new_tensor(float(mean.shape[0] * pixels))


def merged_over_processes(
    mu: Tensor, total: Tensor, count: Tensor, group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The same over all processes of a group, each with its own count: what SyncBatchNorm normalises with.

    Differentiable: the gradients of all processes arrive at each one's moments.
    """
    from torch.distributed.nn.functional import all_gather

    own = torch.cat((mu, total, count.reshape(1)))
    every = torch.stack(all_gather(own, group=group))
    channels = mu.numel()
    mus, totals, counts = every[:, :channels], every[:, channels:-1], every[:, -1:].detach()
    merged_count = counts.sum()
    merged_mu = (counts * mus).sum(0) / merged_count
    return merged_mu, (totals + counts * (mus - merged_mu).square()).sum(0), merged_count
