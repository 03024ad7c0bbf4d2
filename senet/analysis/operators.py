"""Tensors that single operators read and write: the rule for all, and tables of those that it does not fit."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

__all__ = ["elements", "reads", "writes"]


def writes(func: Any, given: Mapping[str, Any], out: Any) -> list[Tensor]:
    """Returns the tensors that an operator made or changed; none for a view, an allocation or a query.

    Args:
        func: the operator, as PyTorch dispatches it.
        given: its arguments by name.
        out: what it returned.
    """
    if _aten(func).startswith(("empty", "new_empty")) or torch.Tag.inplace_view in func.tags:
        return []
    known = {t.untyped_storage()._cdata for t in _tensors(given)}
    made = [t for t in _tensors(out) if t.untyped_storage()._cdata not in known]
    changed = [given.get(a.name) for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    inside = [given["x"]] if str(func.overloadpacket) in _GATED_INSIDE else []
    return [t for t in made + _tensors(changed) + inside if t.numel()]


def reads(func: Any, given: Mapping[str, Any]) -> list[tuple[Tensor, int]]:
    """Returns the tensors that an operator read, each with the number of times.

    Args:
        func: the operator, as PyTorch dispatches it.
        given: its arguments by name.
    """
    name = _aten(func)
    if name.startswith("new_") or name.endswith("_like"):  # what is given is a pattern
        return []
    times = _times(name, given) | _times_of_ours(str(func.overloadpacket), given)
    times |= {a.name: 0 for a in func._schema.arguments if a.is_out}
    found: dict[Any, tuple[Tensor, int]] = {}
    for argument, value in given.items():
        for t in _tensors(value):
            key = (t.untyped_storage()._cdata, t.storage_offset(), t.shape, t.stride())
            found[key] = (t, max(times.get(argument, 1), found[key][1] if key in found else 0))
    return list(found.values())


def elements(t: Tensor) -> int:
    """The elements of a tensor that are in memory."""
    own = (size for size, stride in zip(t.shape, t.stride(), strict=True) if stride)
    return min(math.prod(own), t.untyped_storage().nbytes() // t.element_size()) if t.numel() else 0


def _aten(func: Any) -> str:
    """An operator's name if it is one of PyTorch's own: their tables are theirs."""
    return func.overloadpacket.__name__ if func.namespace == "aten" else ""


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


# The kernels are in aten/src/ATen/native/cuda/: Normalization.cuh, group_norm_kernel.cu, *Pool*.cu. cuDNN and MIOpen
# are taken to do as PyTorch's own; cuDNN may keep a small map on the chip. On CPUs batch norm reads the map three times
# in training (mean, variance, result: cpu/batch_norm_kernel.cpp); it counts as CUDA's, so that devices compare.
_NORM = re.compile(
    r"(native|cudnn|miopen)_batch_norm|native_group_norm|(_native_batch_norm_legit|_batch_norm_with_update)(_functional)?"
)
_NORM_BACKWARD = re.compile(r"((native_|cudnn_|miopen_)?batch_norm|native_group_norm)_backward")
_POOL_BACKWARD = {"_adaptive_avg_pool2d_backward", "avg_pool2d_backward", "max_pool2d_with_indices_backward"}
_OVERWRITE = {"copy_", "fill_", "zero_", "_foreach_copy_", "_foreach_zero_", "bernoulli_", "normal_", "uniform_"}


def _times(name: str, given: Mapping[str, Any]) -> dict[str, int]:
    """Returns the number of times that an operator of PyTorch reads an argument, by name, where that is not once."""
    if _NORM.fullmatch(name):  # the statistics, then the result
        return {"input": 2 if given.get("training", True) else 1}
    if _NORM_BACKWARD.fullmatch(name):  # two sums, then the gradient; the map has a share in it through its statistics
        wanted = given.get("output_mask", (True,))[0]
        training = given.get("train", given.get("update", True))
        return {"input": 1 + (wanted and training), "grad_out": 1 + wanted, "grad_output": 1 + wanted}
    if name == "convolution_backward":  # one kernel for each gradient that is wanted
        by_input, by_weight, by_bias = given["output_mask"]
        return {"grad_output": by_input + by_weight + by_bias, "input": by_weight, "weight": by_input}
    if name in _POOL_BACKWARD or name in _OVERWRITE:  # its sizes alone
        return {"self": 0}
    return {}


# These of :mod:`senet.kernels.ops` write the gated map, which has the size of x, and convolve it: it is seen by them
# alone. It counts as x, written once and read once more.
_GATED_INSIDE = {"senet.project", "senet.project_backward"}


def _times_of_ours(name: str, given: Mapping[str, Any]) -> dict[str, int]:
    """The same for those of our operators that are made of several kernels."""
    if name == "senet.project_backward":  # the convolution's backward: a kernel for each gradient
        return {"x": 2, "g": 2 + given["with_bias"]}
    return {"x": 2} if name in _GATED_INSIDE else {}
