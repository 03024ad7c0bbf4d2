"""Registers the operators, and refuses what would give wrong derivatives of them.

Reverse mode is what the operators know, any number of times. Forward mode and the transforms of ``torch.func`` they
do not: PyTorch would drop the tangents of some without a word, and stop at others with a word that helps nobody.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch.autograd import forward_ad

from senet.errors import InputError

__all__ = ["differentiable", "operator"]

_LIBRARY = torch.library.Library("senet", "FRAGMENT")
_TRANSFORMED = "FuncTorchDynamicLayerFrontMode"  # the dispatcher's key while any transform of torch.func is at work


def operator(function: Callable[..., Any]) -> torch.library.CustomOpDef:
    """Registers a function of tensors as the operator ``senet::NAME``.

    Raises:
        InputError: when called while a level of forward-mode differentiation is open.
    """

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if forward_ad._current_level >= 0:  # tangents cannot be seen from here where a gradient is wanted as well
            _refuse("forward-mode differentiation (torch.autograd.forward_ad, torch.func.jvp)")
        return function(*args, **kwargs)

    schema = torch.library.infer_schema(function, mutates_args=())
    tags = (torch.Tag.flexible_layout,)
    return torch.library.custom_op(f"senet::{function.__name__}", checked, mutates_args=(), schema=schema, tags=tags)


def differentiable(
    op: torch.library.CustomOpDef, setup_context: Callable[..., None], backward: Callable[..., Any]
) -> None:
    """Gives an operator its backward, and lets it refuse ``vmap``, ``grad``, ``jvp`` and their kin of ``torch.func``.

    Args:
        op: the operator.
        setup_context: keeps what backward needs.
        backward: the gradients of all inputs. Where gradients of its own are wanted (``create_graph=True``) gradient
            mode is on, and it has to be made of differentiable operators.
    """
    op.register_autograd(backward, setup_context=setup_context)

    def refused(*_args: Any, **_kwargs: Any) -> NoReturn:
        _refuse("torch.func (vmap, grad, jvp and what is made of them)")

    _LIBRARY.impl(op._name, refused, _TRANSFORMED)


def _refuse(what: str) -> NoReturn:
    raise InputError(f"the operators of a fused network know no {what}; call senet.unfuse(model) first")
