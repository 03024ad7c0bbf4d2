"""The definition: the paper's equations in plain PyTorch, to be read beside them (arXiv 1709.01507v4, Sec. 3).

A faster form of any of these is correct when it agrees with the function here.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["accumulator_dtype", "scale", "squeeze_avg", "squeeze_max"]


def accumulator_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype that squeeze and gate are computed in: float32, or float64 where the map is float64."""
    return torch.promote_types(dtype, torch.float32)


def squeeze_avg(u: Tensor) -> Tensor:
    """Global average: z_c = 1/(H*W) sum_ij u_c(i, j) (eq. 2).

    Args:
        u: map (N, C, H, W), any floating dtype.

    Returns:
        (N, C, 1, 1), accumulated and returned in :func:`accumulator_dtype`: half-precision sums of large maps
        overflow or stall.
    """
    return u.mean((2, 3), keepdim=True, dtype=accumulator_dtype(u.dtype))


def squeeze_max(u: Tensor) -> Tensor:
    """Global maximum (Table 11): z_c = max_ij u_c(i, j).

    Args:
        u: map (N, C, H, W), any floating dtype.

    Returns:
        (N, C, 1, 1) in :func:`accumulator_dtype`.
    """
    return u.amax((2, 3), keepdim=True).to(accumulator_dtype(u.dtype))


def scale(u: Tensor, s: Tensor) -> Tensor:
    """Channel-wise product of map and gate: x_c = s_c * u_c (eq. 4).

    Args:
        u: map (N, C, H, W), any floating dtype.
        s: gate, broadcast over ``u``: (N, C, 1, 1) for squeeze-and-excitation; rounded to ``u``'s dtype.

    Returns:
        (N, C, H, W) in the dtype and memory format of ``u``.
    """
    return u * s.to(u.dtype)
