"""Modules as surgery handles them: models it refuses, norms, hooks, modes, and one module in another's place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from senet.errors import InputError, with_article
from senet.surgery.graph.install import Rewritten
from senet.surgery.report import has_report

__all__ = ["evaluating", "is_norm", "refuse", "refuse_recorded", "refuse_what_is_no_module", "replace", "tidy"]

_WRAPPERS = {"DataParallel", "DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule"}


def refuse(model: nn.Module, verb: str, *, fused: bool = False, recorded: bool = False) -> None:
    """Raises an error for a model that no verb can work on, the same for all of them.

    A part that is a ScriptModule is no reason: it is left alone, as what is called whole.

    Args:
        model: any object.
        verb: for the message, such as ``"fuse"``.
        fused: whether a fused model will do.
        recorded: whether one that is being recorded will do.

    Raises:
        InputError: it is no module, scripted, compiled, wrapped for distributed training, lazy, on the meta device,
            being recorded, folded, or, unless that will do, fused.
    """
    refuse_what_is_no_module(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(f"the model is a ScriptModule, whose forward cannot be read; {verb} before scripting")
    if not recorded:
        refuse_recorded(model)
    for path, module in model.named_modules():
        name = "the model" if not path else f"the model's part {path}"
        if hasattr(module, "_orig_mod") or module._compiled_call_impl is not None:
            raise InputError(f"{name} is compiled; {verb} before torch.compile")
        if wrapping := _WRAPPERS & {kind.__name__ for kind in type(module).__mro__}:
            raise InputError(
                f"{name} is wrapped for distributed training ({wrapping.pop()}), which has taken stock of its parts; "
                f"{verb} before wrapping"
            )
        if has_report(module, "folded"):
            raise InputError(f"{name} is folded already; {verb} the model that it was folded from")
        # A copy made while somebody recorded may run a tapped forward still, which is not fusing.
        if not fused and isinstance(module, Rewritten) and not hasattr(module, "_senet_tapped"):
            raise InputError(f"{name} is fused already; senet.unfuse(model) undoes it, then {verb}")
        own = [t for t in (*module._parameters.values(), *module._buffers.values()) if t is not None]
        if any(isinstance(t, nn.UninitializedParameter | nn.UninitializedBuffer) for t in own):
            raise InputError(f"{name} is lazy and has no weights yet; run the model once, then {verb}")
        if any(t.is_meta for t in own):
            raise InputError(f"{name} lies on the meta device and has no values; {verb} when it has weights")


def refuse_what_is_no_module(model: object) -> None:
    """Raises an error for anything but a module.

    Raises:
        InputError: it is no module.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is {with_article(type(model).__name__)}; accepted: a torch.nn.Module")


def refuse_recorded(model: nn.Module) -> None:
    """Raises an error for a model whose gates are being recorded.

    Raises:
        InputError: they are.
    """
    for module in model.modules():
        listeners = [getattr(hook, "__self__", None) for hook in module._forward_hooks.values()]
        listeners.append(getattr(type(module), "_senet_tapped", None))
        if any(getattr(each, "_senet_recording", False) for each in listeners):
            raise InputError(f"the gates of {type(model).__name__} are being recorded; end the recording first")


def tidy(model: nn.Module) -> None:
    """Rids a copy that was made while somebody recorded a model of what is left of it; nobody records it any more."""
    for module in model.modules():
        while tapped := getattr(type(module), "_senet_tapped", None):
            module.__class__ = tapped.before
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in list(hooks.items()):
                if any(hasattr(each, "_senet_recording") for each in (hook, getattr(hook, "__self__", None))):
                    del hooks[key]


def is_norm(module: nn.Module) -> bool:
    """Whether a module keeps running statistics of channels: a batch norm of any kind, frozen ones included."""
    if isinstance(module, torch.jit.ScriptModule):  # which is called whole
        return False
    # Its own buffers, not its attributes: those of a wrapper may be what it wraps has.
    statistics = (module._buffers.get(name) for name in ("running_mean", "running_var"))
    return all(isinstance(each, Tensor) for each in statistics) and hasattr(module, "eps")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while, each module's own mode afterwards."""
    modes = {m: m.training for m in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for m, mode in modes.items():
            m.training = mode


def replace(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> None:
    """Puts modules in the places of others, wherever those are registered below a model."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is not None and child in new:
                parent._modules[name] = new[child]
