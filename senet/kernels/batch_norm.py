"""Batch normalisation from the moments of single images: what is left of a norm once the map has been read.

Ioffe and Szegedy, arXiv 1502.03167, Algorithm 1. All tensors here are small; autograd sees ordinary operators.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["batch_moments", "exact_mean", "merged_over_processes"]


def exact_mean(mean: Tensor, rest: Tensor) -> Tensor:
    """A mean with what its rounding left, in float64: where means are large, they differ by less than that.

    Args:
        mean, rest: of each image's channel, (N, C), from :func:`senet.kernels.ops.moments`.
    """
    if mean.device.type == "mps":  # has no float64
        return mean
    return mean.double() + rest.double()


def batch_moments(mean: Tensor, m2: Tensor, pixels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Merges the moments of images by Chan's rule, so that nothing cancels where the mean is large.

    Args:
        mean: mean of each image's channel, (N, C), as :func:`exact_mean` gives it.
        m2: sum of squared deviations from it, (N, C).
        pixels: H * W.

    Returns:
        Mean (C,) and sum of squared deviations from it (C,), in their dtypes; how many values went in, a tensor ().
    """
    mu = mean.mean(0)
    total = m2.sum(0) + pixels * (mean - mu).to(m2.dtype).square().sum(0)
    return mu, total, mu.new_tensor(float(mean.shape[0] * pixels))


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
