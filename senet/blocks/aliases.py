"""The names under which others keep SE's two layers, so that weights people have load as they are."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from torch import Tensor, nn

__all__ = ["ALIASES", "accept_aliases"]

# Pairs of names of W1 and W2 below the block. Linear layers, and such convolutions of sequences and volumes, become
# 1x1 convolutions.
ALIASES = (
    ("conv_reduce", "conv_expand"),  # timm's EfficientNet family
    ("fc.0", "fc.2"),  # moskomule/senet.pytorch and the tutorials: Linear, ReLU, Linear, Sigmoid
    ("excitation.0", "excitation.2"),  # tutorials that keep the paper's words
    ("mlp.0", "mlp.2"),  # tutorials whose stages are gap and mlp: Linear without bias
    ("squeeze", "expand"),  # NVIDIA: Linear
    ("conv1.conv", "conv2.conv"),  # mmpretrain
    ("conv1", "conv2"),  # pytorchcv
)


def accept_aliases(
    _module: nn.Module | None, state_dict: MutableMapping[str, Tensor], prefix: str, *_rest: Any
) -> None:
    """Renames what ``load_state_dict`` is given for a block with layers ``fc1`` and ``fc2``; a pre-hook of it."""
    for names in ALIASES:
        if not any(f"{prefix}{name}.weight" in state_dict for name in names):
            continue
        for ours, theirs in zip(("fc1", "fc2"), names, strict=True):
            for part in ("weight", "bias"):
                if f"{prefix}{theirs}.{part}" in state_dict:
                    state_dict[f"{prefix}{ours}.{part}"] = state_dict.pop(f"{prefix}{theirs}.{part}")
    for ours in ("fc1", "fc2"):
        weight = state_dict.get(f"{prefix}{ours}.weight")
        if weight is not None and weight.ndim in (2, 3, 5) and weight.shape[2:].numel() == 1:
            state_dict[f"{prefix}{ours}.weight"] = weight.flatten(1)[:, :, None, None]
