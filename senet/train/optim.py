"""Optimizers and their parameter groups."""

from __future__ import annotations

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from senet.train.recipe import Optim

__all__ = ["make_optimizer", "parameter_groups"]


def parameter_groups(model: nn.Module, spec: Optim) -> list[dict[str, object]]:
    """The model's parameters by their weight decay: matrices and kernels, then biases and norm weights."""
    trained = [p for p in model.parameters() if p.requires_grad]
    if spec.norm_weight_decay is None:
        return [{"params": trained, "weight_decay": spec.weight_decay}]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": spec.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": spec.norm_weight_decay},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(model: nn.Module, spec: Optim) -> Optimizer:
    """The optimizer that the recipe names, over the model's parameters."""
    groups = parameter_groups(model, spec)
    if spec.name == "adamw":
        return AdamW(groups, lr=spec.lr, betas=spec.betas)
    return SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.nesterov)
