"""Backbones for fine-tuning: stages that do not learn, norms that are fixed or shared."""

from __future__ import annotations

from typing import Literal

from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from senet.errors import InputError
from senet.models.features import Features

__all__ = ["freeze_stages", "set_norms"]


def freeze_stages(body: Features, ends: list[str], stages: int) -> None:
    """Keeps the first stages as they are: no gradients, norms fixed; blocks in them are frozen with them.

    Args:
        body: changed in place.
        ends: the module that ends each stage, the stem first; dotted where it sits inside another.
        stages: how many.

    Raises:
        InputError: more than there are.
    """
    if stages > len(ends):
        raise InputError(f"detector frozen is {stages}; accepted: 0 to {len(ends)}, the stages of this network")
    if not stages:
        return
    # Modules run in the order in which they are declared, so that whatever is declared up to the end of a stage is in
    # it: norms that lie beside the stages, too.
    names, end = [name for name, _ in body.named_modules() if name], ends[stages - 1]
    last = max(index for index, name in enumerate(names) if f"{name}.".startswith(f"{end}."))
    for name in names[: last + 1]:
        module = body.get_submodule(name)
        if isinstance(module, nn.BatchNorm2d):
            body.set_submodule(name, _frozen(module))
        else:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)


def set_norms(body: Features, norm: Literal["frozen", "sync", "batch"]) -> Features:
    """Makes all batch norms of a backbone of one kind; those that are frozen already stay so.

    Returns:
        The backbone, changed in place.
    """
    if norm == "sync":
        converted: Features = nn.SyncBatchNorm.convert_sync_batchnorm(body)
        return converted
    if norm == "frozen":
        for name, module in list(body.named_modules()):
            if isinstance(module, nn.BatchNorm2d):
                body.set_submodule(name, _frozen(module))
    return body


def _frozen(norm: nn.BatchNorm2d) -> FrozenBatchNorm2d:
    """The same norm with statistics and weights that stay."""
    frozen = FrozenBatchNorm2d(norm.num_features, eps=norm.eps)
    state = norm.state_dict()
    frozen.load_state_dict({name: value for name, value in state.items() if name != "num_batches_tracked"})
    return frozen
