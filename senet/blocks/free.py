"""A site of squeeze-and-excitation at the price of the norm that it follows: open, gate, close.

A *site* is where a map is gated: ``x`` (a convolution's output), a norm ``u = norm(x)``, perhaps an activation, a
pool, a gate, a product, and what follows it. :func:`open_site` reads ``x`` once and gives what the pool would give;
the gate is then any function of that; one of the ``close`` functions writes the site's output. What lies between is
never stored::

    site = open_site(x, bn)                                       # bn(x), and its squeeze
    s = sigmoid(fc2(relu(fc1(pooled(site)))))                     # any gate
    out = close_tail(site, s, shortcut, relu=True)                # relu(s * bn(x) + shortcut)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.grad_mode import _unsafe_preserve_version_counter
from torch.nn.modules.batchnorm import _BatchNorm

from senet.kernels import ops
from senet.kernels.batch_norm import batch_moments, merged_over_processes, widest
from senet.kernels.layout import pixels
from senet.kernels.reference import accumulator_dtype

__all__ = [
    "Site",
    "close_gated",
    "close_project",
    "close_tail",
    "open_site",
    "pixel_conv",
    "pooled",
    "uses_batch_statistics",
]


class Site(NamedTuple):
    """A site between its opening and its end: u = scale * (x - center) + shift, h = act(u).

    Attributes:
        x: the map, (N, C, H, W), (N, C, L) or (N, C, D, H, W).
        handle, terms: what carry its gradient, see :mod:`senet.kernels.ops`.
        center: what the map is measured from, (N, C): each image's mean, or the running mean where the norm is frozen;
            None where there is no norm, and u is x.
        scale, shift: (N, C), or None.
        act: the activation's name.
        z: the squeeze, mean of h over the map, (N, C).
    """

    x: Tensor
    handle: Tensor
    terms: Tensor
    center: Tensor | None
    scale: Tensor | None
    shift: Tensor | None
    act: str
    z: Tensor


def open_site(x: Tensor, norm: _BatchNorm | None, act: str = "none", *, pool: bool = True) -> Site:
    """Reads a map once, or twice with an activation: the norm's statistics and the squeeze.

    Args:
        x: map (N, C, H, W), (N, C, L) or (N, C, D, H, W), not empty.
        norm: a BatchNorm of that rank in training or evaluation, a SyncBatchNorm, one with frozen statistics, or None.
            Running statistics are updated as the module itself would.
        act: the activation after the norm: ``"none"``, ``"relu"``, ``"relu6"``, ``"silu"``, ``"hard_swish"``,
            ``"gelu"``; without a norm ``"none"``.
        pool: whether the squeeze is wanted; a plain residual tail has none.

    Raises:
        InputError: a map of another rank.
        ValueError: batch statistics of one value a channel, as PyTorch raises.
    """
    if norm is None:
        mean, _, _, handle, terms = ops.moments(x, "none")
        return Site(x, handle, terms, None, None, None, "none", mean)
    rest = None
    if uses_batch_statistics(norm):
        center, rest, m2, handle, terms = ops.moments(x, act)
        apart, var = _statistics(norm, x, center, rest, m2)
        mean_apart = apart
    else:  # measured from the running mean, as the module does, to its exact zeros
        assert norm.running_mean is not None
        assert norm.running_var is not None
        center = _acc(norm.running_mean, x).expand(x.shape[:2]).contiguous()
        apart, var = torch.zeros_like(center), _acc(norm.running_var, x)
        if pool and act == "none":
            mean, rest, _, handle, terms = ops.moments(x, act)
            mean_apart = mean - center
        else:
            mean_apart = apart
            handle, terms = ops.stand_in(x, center, act)
    alpha = (var + norm.eps).rsqrt()
    if norm.weight is not None:
        alpha = alpha * _acc(norm.weight, x)
    bias = torch.zeros_like(alpha) if norm.bias is None else _acc(norm.bias, x)
    shift = alpha * apart + bias
    scale = alpha.expand_as(shift)
    if act != "none" and pool:
        scale = scale.contiguous()
        z, _, _ = ops.squeeze(terms, x, center, scale, shift, act)
    else:  # the map is measured from its rounded mean; its squeeze is that of the mean itself
        z = shift if mean_apart is apart else alpha * mean_apart + bias
        z = z if rest is None else z + alpha.detach() * rest
    return Site(x, handle, terms, center, scale, shift, act, z)


def uses_batch_statistics(norm: _BatchNorm) -> bool:
    """Whether a norm normalises with its batch's statistics now; one with frozen statistics never does."""
    is_frozen = not isinstance(norm, _BatchNorm)
    return not is_frozen and (norm.training or (norm.running_mean is None and norm.running_var is None))


def pooled(site: Site, ndim: int = 4, *, full_precision: bool = False, dtype: torch.dtype | None = None) -> Tensor:
    """The squeeze as a pool would give it: (N, C), or (N, C, 1, 1) for ``ndim=4``.

    Args:
        site: the site.
        ndim: the rank of what is returned, 2 or more, whatever that of the map is.
        full_precision: float32 or wider, instead of the map's dtype, as the pools of others return. Under autocast it
            is so anyway, since autocast casts as it sees fit.
        dtype: what the pool gives whatever the map is, such as float32 for ``u.float().mean((2, 3))``; it is taken as
            given, and ``full_precision`` decides nothing beside it.
    """
    z = site.z.view(*site.z.shape, *(1,) * (ndim - 2))
    if dtype is None:
        dtype = z.dtype if full_precision or _autocast_dtype(site.x) is not None else site.x.dtype
    return z.to(dtype)


def pixel_conv(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d, z: Tensor) -> Tensor:
    """A convolution with a kernel of 1, of maps of one pixel, as the product that it is; convolutions are slow at that.

    Shapes: (N, C, 1, 1) -> (N, K, 1, 1), and likewise of rank 3 and 5.
    """
    return F.linear(z.flatten(1), conv.weight.flatten(1), conv.bias).unflatten(1, (-1, *(1,) * (z.ndim - 2)))


def close_tail(
    site: Site,
    s: Tensor | None,
    shortcut: Tensor | None,
    drops: Sequence[Callable[[Tensor], Tensor]] = (),
    *,
    relu: bool,
) -> Tensor:
    """The end of a residual unit: ``relu(drop(s * u) + shortcut)``.

    Args:
        site: opened without an activation.
        s: the gate, N * C values in any shape; None: 1.
        shortcut: map like ``x``, or None.
        drops: what scales each image as a whole, such as stochastic depth.
        relu: whether the ReLU is there.
    """
    scale, shift = site.scale, site.shift
    factors = [] if s is None else [_gate(site, s)]
    factors += [drop(site.z.new_ones(site.x.shape[0], *(1,) * (site.x.ndim - 1))).flatten(1) for drop in drops]
    for factor in factors:
        scale = factor if scale is None else scale * factor
        shift = None if shift is None else shift * factor
    scale = torch.ones_like(site.z) if scale is None else scale.expand_as(site.z).contiguous()
    if shortcut is None or shortcut.dtype == site.x.dtype:
        return ops.tail(site.handle, site.terms, site.x, site.center, scale, shift, shortcut, relu)
    out = ops.tail(site.handle, site.terms, site.x, site.center, scale, shift, None, False) + shortcut
    return torch.relu(out) if relu else out


def close_gated(site: Site, s: Tensor) -> Tensor:
    """The gated activation ``s * act(u)``, for whatever follows it; the norm's output and its activation unkept."""
    assert site.center is not None, "a site without a norm ends with close_tail"
    return ops.gated(site.handle, site.terms, site.x, site.center, site.scale, site.shift, _gate(site, s), site.act)


def close_project(site: Site, s: Tensor, conv: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> Tensor:
    """The convolution of ``s * act(u)``, whose input is computed again in backward instead of being kept."""
    assert site.center is not None, "a site without a norm ends with close_tail"
    weight, bias, autocast = conv.weight, conv.bias, _autocast_dtype(site.x)
    if autocast is not None:
        weight, bias = weight.to(autocast), None if bias is None else bias.to(autocast)
    if weight.dtype != site.x.dtype:  # the convolution will cast: let it
        return conv(close_gated(site, s))
    opened = (site.handle, site.terms, site.x, site.center, site.scale, site.shift)
    geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
    return ops.project(*opened, _gate(site, s), site.act, weight, bias, *geometry)


def _statistics(norm: _BatchNorm, x: Tensor, mean: Tensor, rest: Tensor, m2: Tensor) -> tuple[Tensor, Tensor]:
    """Returns each image's mean minus the batch's, (N, C), and the batch's biased variance, (C,).

    Updates the norm's running statistics.
    """
    mu, apart, total, count = batch_moments(mean, rest, m2, pixels(x))
    if isinstance(norm, nn.SyncBatchNorm) and norm.training and dist.is_initialized():
        mu, total, count = merged_over_processes(mu, total, count, norm.process_group)
        apart = _acc(widest(mean) - mu, x)
    elif x.numel() == x.shape[1]:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
    if norm.training and norm.track_running_stats:
        _update(norm, mu.detach(), (total / (count - 1)).detach())
    return apart, _acc(total / count, x)


def _update(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Moves a norm's running statistics towards a batch's."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        momentum = 1 / norm.num_batches_tracked.to(mean.dtype) if norm.momentum is None else norm.momentum
        statistics = (norm.running_mean, norm.running_var)
        # As PyTorch's own norm changes them: one that ran before in the same pass has kept them and does not read them.
        with nullcontext() if torch.compiler.is_compiling() else _unsafe_preserve_version_counter(statistics):
            for kept, now in zip(statistics, (mean, variance), strict=True):
                kept.add_(momentum * (now.to(kept.dtype) - kept))


def _gate(site: Site, s: Tensor) -> Tensor:
    return s.reshape(site.z.shape).to(site.z.dtype).contiguous()


def _acc(x: Tensor, like: Tensor) -> Tensor:
    return x.to(accumulator_dtype(like.dtype))


def _autocast_dtype(x: Tensor) -> torch.dtype | None:
    """The dtype of autocast where it is on, or None."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if kind != "meta" and torch.is_autocast_enabled(kind) else None
