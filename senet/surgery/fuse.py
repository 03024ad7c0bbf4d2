"""``fuse``: training at the price of the plain network, in place and undone exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from senet.errors import InputError
from senet.surgery.agree import disagreement
from senet.surgery.chains import tails
from senet.surgery.hosts import Walk, path_of
from senet.surgery.listen import refuse_listened, tidy
from senet.surgery.report import Report, forget, has_report, keep
from senet.surgery.rewrite import Rewriting
from senet.surgery.sites import ONE_PIXEL, Gated, find
from senet.surgery.swap import Rewritten, give_back, put_in
from senet.surgery.trace import Traced, ever_larger

__all__ = ["fuse", "restore", "unfuse"]


def fuse(model: nn.Module, *, example: Sequence[Any] | None = None, plain_tails: bool = False) -> nn.Module:
    """Makes squeeze-and-excitation in a model cost no passes over the map of its own, in training and evaluation.

    Gated maps are found in the model's own forward by what they compute (:mod:`senet.surgery.sites`), wherever they
    come from: norm, gate, shortcut and ReLU of a residual unit become one site; norm, activation, gate and 1x1
    convolution of a mobile unit another; a gate alone a third. A module is taken over only after its outputs,
    gradients and running statistics agreed with its own in float64. The model stays the same object with the same
    parts, parameters, state_dict and hooks; :func:`unfuse` undoes it, :func:`~senet.surgery.report.report` says what
    was done.

    Args:
        model: any module, of any package. Compile it, or wrap it for distributed training, afterwards; for formats
            such as ONNX, which know PyTorch's own operators alone, :func:`unfuse` or fold it first.
        example: what its forward takes, for one run without gradients; None: two images of 64 pixels, or of a size
            that the model takes and that leaves its gated maps more than one pixel.
        plain_tails: whether norm, shortcut and ReLU of residual units without a gate are taken as well.

    Returns:
        ``model``.

    Raises:
        InputError: the model is compiled, scripted, fused already or being recorded, or does not take the example.

    Differs from the paper: nowhere; the same numbers are computed in another order.
    """
    _check(model)
    # Gradients are looked at, and nobody's random numbers are used up.
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        try:
            for given in ever_larger(model, example):
                restore(model)
                done = _fused(model, given, plain_tails)
                if not any(reason == ONE_PIXEL for _, reason in done.left):
                    break
        except BaseException:
            restore(model)
            raise
    done.sort(model)
    keep(model, done)
    return model


def unfuse(model: nn.Module) -> nn.Module:
    """Undoes :func:`fuse`: every module gets its own class back; the objects were never others.

    Raises:
        InputError: neither the model nor a part of it is fused, or it is being recorded.
    """
    refuse_listened(model)
    if not has_report(model, "fused") and not any(isinstance(m, Rewritten) for m in model.modules()):
        raise InputError(f"{type(model).__name__} is not fused; senet.fuse(model) does it")
    restore(model)
    forget(model)
    return model


def restore(model: nn.Module) -> None:
    """Gives every rewritten module its own class back."""
    for module in model.modules():
        if isinstance(module, Rewritten):
            give_back(module)


def _fused(model: nn.Module, example: Sequence[Any] | None, plain_tails: bool) -> Report:
    """Rewrites a model: whole sites first, then what is left in parts."""
    walk = Walk(model, example, sums=plain_tails)
    done = Report("fused")
    for wanted in (_whole, _normed, _taken_on, _any):
        for module in walk.modules():
            traced = walk.traced(module)
            sites = [site for site in find(traced) if isinstance(site, Gated)] if traced is not None else []
            # All of them, as nobody looks into a module that was rewritten again.
            if traced is not None and any(map(wanted, sites)):
                _take(walk, traced, sites, done)
    done.left += dict.fromkeys(walk.refused())
    if plain_tails:
        for module in walk.modules():
            traced = walk.traced(module)
            if traced is not None:
                _take_tails(walk, traced, done)
    return done


def _check(model: nn.Module) -> None:
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("the model is a ScriptModule, whose forward cannot be rewritten; fuse before scripting")
    if hasattr(model, "_orig_mod"):
        raise InputError("the model is compiled; fuse before torch.compile")
    refuse_listened(model)
    tidy(model)
    if any(isinstance(m, Rewritten) for m in model.modules()):
        raise InputError("the model is fused already; senet.unfuse(model) undoes it")


def _whole(site: Gated) -> bool:
    """Norm, gate and what takes the product all lie in the module."""
    return site.source is not None and _taken_on(site)


def _normed(site: Gated) -> bool:
    return site.source is not None


def _any(_site: Gated) -> bool:
    return True


def _taken_on(site: Gated) -> bool:
    return all(user.op != "output" for user in site.product.users)


def _take(walk: Walk, traced: Traced, sites: Sequence[Gated], done: Report) -> None:
    """Rewrites a module's sites if the result agrees with it; notes what came of it."""
    prefix = walk.paths[traced.module]
    names = [path_of(site, prefix) for site in sites]
    rewriting = Rewriting(traced)
    kinds = [rewriting.gated(site) for site in sites]
    _finish(walk, traced, list(zip(names, kinds, strict=True)), done)


def _take_tails(walk: Walk, traced: Traced, done: Report) -> None:
    found = list(tails(traced))
    prefix = walk.paths[traced.module]
    names = [".".join(p for p in (prefix, str(source.norm.target)) if p) for source, _ in found]
    rewriting = Rewriting(traced)
    kinds = [rewriting.tail(source, tail) for source, tail in found]
    if found:
        _finish(walk, traced, list(zip(names, kinds, strict=True)), done)


def _finish(walk: Walk, traced: Traced, taken: list[tuple[str, str]], done: Report) -> None:
    difference = disagreement(traced, traced.graph)
    walk.mark(traced.module)
    if difference is None:
        put_in(traced.module, traced.graph)
        done.taken += taken
    else:
        done.left += [(name, difference) for name, _ in taken]
