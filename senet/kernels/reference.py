"""The definition: the paper's equations in plain PyTorch, to be read beside them (arXiv 1709.01507v4, Sec. 3).

A faster form of any of these is correct when it agrees with the function here. Maps are (N, C, H, W); those of
sequences, (N, C, L), and of volumes, (N, C, D, H, W), are squeezed over all their positions in the same way.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["accumulator_dtype", "gated_conv", "positions", "residual_tail", "scale", "squeeze_avg", "squeeze_max"]


def accumulator_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that squeeze and gate are computed in: float32, or float64 where the map is float64."""
    return torch.promote_types(dtype, torch.float32)


def positions(u: Tensor) -> tuple[int, ...]:
    """The axes of a map's positions: (2, 3) for (N, C, H, W)."""
    return tuple(range(2, u.ndim))


def squeeze_avg(u: Tensor) -> Tensor:
    """Global average: z_c = 1/(H*W) sum_ij u_c(i, j) (eq. 2).

    Args:
        u: map (N, C, H, W), any floating dtype.

    Returns:
        (N, C, 1, 1), accumulated and returned in :func:`accumulator_dtype`: half-precision sums of large maps
        overflow or stall.
    """
    return u.mean(positions(u), keepdim=True, dtype=accumulator_dtype(u.dtype))


def squeeze_max(u: Tensor) -> Tensor:
    """Global maximum (Table 11): z_c = max_ij u_c(i, j).

    Args:
        u: map (N, C, H, W), any floating dtype.

    Returns:
        (N, C, 1, 1) in :func:`accumulator_dtype`.
    """
    return u.amax(positions(u), keepdim=True).to(accumulator_dtype(u.dtype))


def scale(u: Tensor, s: Tensor) -> Tensor:
    """Channel-wise product of map and gate: x_c = s_c * u_c (eq. 4).

    Args:
        u: map (N, C, H, W), any floating dtype.
        s: gate, broadcast over ``u``: (N, C, 1, 1) for squeeze-and-excitation; rounded to ``u``'s dtype.

    Returns:
        (N, C, H, W) in the dtype and memory format of ``u``.
    """
    return u * s.to(u.dtype)


def residual_tail(
    x: Tensor,
    norm: Callable[[Tensor], Tensor],
    gate: Callable[[Tensor], Tensor] | None,
    shortcut: Tensor | None,
    *,
    relu: bool = True,
) -> Tensor:
    """The end of an SE residual unit (Fig. 3): relu(s * u + shortcut), u = norm(x), s = gate(squeeze(u)).

    Args:
        x: what the branch's last convolution gives, (N, C, H, W).
        norm: (N, C, H, W) -> (N, C, H, W).
        gate: (N, C, 1, 1) -> (N, C, 1, 1), such as eq. 3; None: a plain residual unit.
        shortcut: (N, C, H, W), or None: nothing is added.
        relu: whether a ReLU ends it.
    """
    u = norm(x)
    if gate is not None:
        u = scale(u, gate(squeeze_avg(u)))
    if shortcut is not None:
        u = u + shortcut
    return torch.relu(u) if relu else u


def gated_conv(
    x: Tensor,
    norm: Callable[[Tensor], Tensor],
    act: Callable[[Tensor], Tensor],
    gate: Callable[[Tensor], Tensor],
    conv: Callable[[Tensor], Tensor],
) -> Tensor:
    """SE inside a mobile unit: conv(s * h), h = act(norm(x)), s = gate(squeeze(h)) (MobileNetV3, arXiv 1905.02244).

    Args:
        x: what the depthwise convolution gives, (N, C, H, W).
        norm: (N, C, H, W) -> (N, C, H, W).
        act: (N, C, H, W) -> (N, C, H, W).
        gate: (N, C, 1, 1) -> (N, C, 1, 1).
        conv: what takes the gated map.
    """
    h = act(norm(x))
    return conv(scale(h, gate(squeeze_avg(h))))
