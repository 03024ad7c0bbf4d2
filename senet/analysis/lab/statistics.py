"""Number of directions in which the gates of a block move, and similarity of classes by their gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Spectrum", "similarity", "similarity_order", "spectrum"]


@dataclass(frozen=True)
class Spectrum:
    """Number of directions that share the variance of C gates over n images: 1 to min(C, n - 1), 0 if nothing moves.

    With eigenvalues l of the gates' covariance and p = l / sum(l):

    Attributes:
        effective_rank: exp(-sum(p log p)), the exponential of the spectrum's entropy (after Roy and Vetterli, "The
            effective rank", 2007, who take singular values of the matrix where these are variances).
        participation_ratio: 1 / sum(p^2), to which small directions add less.
    """

    effective_rank: float
    participation_ratio: float


def spectrum(gates: Tensor) -> Spectrum:
    """The spectrum of gates (images, channels), computed in float64."""
    centred = gates.double() - gates.double().mean(0)
    # The covariance's eigenvalues are the squares of these, up to a factor that p does not have.
    variances = torch.linalg.svdvals(centred) ** 2
    # What rounding leaves of gates that do not move is no direction.
    variances = variances[variances > (1e-6 * gates.double().norm()) ** 2]
    if not len(variances):
        return Spectrum(0.0, 0.0)
    share = variances / variances.sum()
    return Spectrum(float(torch.exp(-(share * share.log()).sum())), float(1 / (share**2).sum()))


def similarity(class_means: Tensor) -> Tensor:
    """Pearson's correlation, over the channels, of the mean gates of every two classes.

    Args:
        class_means: (K, C), float64.

    Returns:
        (K, K); NaN for classes without images and for gates that are the same in every channel.
    """
    centred = class_means - class_means.mean(1, keepdim=True)
    norms = centred.norm(dim=1)
    flat = norms <= 1e-12 * class_means.norm(dim=1)
    unit = torch.where(flat[:, None], torch.nan, centred / norms[:, None])
    return (unit @ unit.T).clamp(-1, 1)


def similarity_order(matrices: Sequence[Tensor]) -> list[int]:
    """An order of the classes in which those that are alike stand together, one for all blocks.

    By the Fiedler vector of the mean of the blocks' correlations, cells that are not defined taken for 0.

    Args:
        matrices: at least one, each (K, K).
    """
    weights = torch.stack(list(matrices)).nan_to_num(0).mean(0) + 1  # from 0 for opposite to 2 for the same
    laplacian = weights.sum(1).diag() - weights
    vectors = torch.linalg.eigh(laplacian).eigenvectors
    fiedler = vectors[:, min(1, len(weights) - 1)]
    sign = 1 if fiedler[fiedler.abs().argmax()] > 0 else -1  # of the two directions, always the same
    return (sign * fiedler).argsort(stable=True).tolist()
